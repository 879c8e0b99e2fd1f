#!/usr/bin/env bash
# Brings images into the cluster under test: `load.sh IMAGE…`. Pushes them where IMAGE_REGISTRY names a registry,
# else hands them to every node of the cluster in tests/e2e/cluster. Prints the names that pods use, one a line.
set -euo pipefail
cluster=$(cd "$(dirname "$0")/../cluster" && pwd)
folder=$(mktemp -d /var/tmp/kommuna-images.XXXXXX)
trap 'rm -rf "$folder"' EXIT

on_every_node() {
  for node in $(kubectl get nodes --no-headers | awk '$2 ~ /^Ready/ {print $1}'); do
    "$cluster/enter" "$node" ctr -n k8s.io images ls -q | grep -xF "$1" >/dev/null || return 1
  done
}

for image in "$@"; do
  # By content: an image that a node has already is not sent again.
  name=$image-$(buildah inspect --type image --format '{{.FromImageID}}' "$image" | cut -c1-12)
  if [ -n "${IMAGE_REGISTRY:-}" ]; then
    name=$IMAGE_REGISTRY/${name#localhost/}
    buildah push --quiet "$image" "docker://$name" >&2
  elif ! on_every_node "$name"; then
    buildah push --quiet "$image" "docker-archive:$folder/image.tar:$name" >&2
    "$cluster/load-image" "$name" "$folder/image.tar" >&2
    rm "$folder/image.tar"
  fi
  echo "$name"
done

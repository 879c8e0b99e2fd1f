#!/usr/bin/env bash
# Brings images into the cluster under test: `load.sh IMAGE…`. Pushes them where IMAGE_REGISTRY names a registry,
# else hands them to the nodes of the cluster in tests/e2e/cluster. Prints the name that pods use, one a line.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d /var/tmp/kommuna-images.XXXXXX)
trap 'rm -rf "$folder"' EXIT
for image in "$@"; do
  if [ -n "${IMAGE_REGISTRY:-}" ]; then
    name=$IMAGE_REGISTRY/${image#localhost/}
    buildah push --quiet "$image" "docker://$name" >&2
  else
    # By content: an image that a node has already is not sent again.
    name=$image-$(buildah inspect --type image --format '{{.FromImageID}}' "$image" | cut -c1-12)
    "$here/../cluster/enter" node0 ctr -n k8s.io images ls -q | grep -qxF "$name" || {
      buildah push --quiet "$image" "docker-archive:$folder/image.tar:$name" >&2
      "$here/../cluster/load-image" "$name" "$folder/image.tar" >&2
      rm "$folder/image.tar"
    }
  fi
  echo "$name"
done

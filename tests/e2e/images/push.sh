#!/usr/bin/env bash
# Pushes images to IMAGE_REGISTRY, from where the nodes of the cluster under test pull them: `push.sh IMAGE…`.
# Prints the names that pods use, one a line.
set -euo pipefail
: "${IMAGE_REGISTRY:?names no registry that the cluster of KUBECONFIG pulls from}"

for image in "$@"; do
  # By content: a name that a node has pulled once never means another image.
  name=$IMAGE_REGISTRY/${image#localhost/}-$(buildah inspect --type image --format '{{.FromImageID}}' "$image" | cut -c1-12)
  buildah push --quiet --compression-format zstd --compression-level 1 "$image" "docker://$name" >&2
  echo "$name"
done

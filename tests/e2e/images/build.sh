#!/usr/bin/env bash
# Builds the images with buildah: `build.sh TAG [NAME…]`. Names: airflow, steps, and the tests' own postgresql and git.
# The base is an argument (BASE), made by base.sh if absent.
set -euo pipefail
cd "$(dirname "$0")/../../.."
tag=$1
shift
base=${BASE:-$(tests/e2e/images/base.sh)}
# Where the host reaches the package registries through a certificate of its own, pip and uv in the build need it too.
network=(--volume /etc/resolv.conf:/etc/resolv.conf:ro)
certificates=()
for path in /etc/ssl/certs /etc/pip.conf; do
  if [ -e "$path" ]; then certificates+=(--volume "$(realpath "$path"):$path:ro"); fi
done
content() { find "$@" -type f ! -path '*/__pycache__/*' -print0 | sort -z | xargs -0 sha256sum; }
for name in "${@}"; do
  arguments=("${network[@]}")
  file=tests/e2e/images/$name/Dockerfile
  sources=("$file" tests/e2e/images/build.sh)
  if [ ! -f "$file" ]; then
    file=docker/Dockerfile
    arguments+=("${certificates[@]}" --target "$name")
    sources=("$file" tests/e2e/images/build.sh .dockerignore requirements pyproject.toml README.md LICENSE src)
  fi
  # By content: an image of the same files on the same base is not built again.
  built=localhost/kommuna/$name:$({ content "${sources[@]}"; echo "$base" "$name"; } | sha256sum | cut -c1-16)
  buildah inspect --type image "$built" >/dev/null 2>&1 || buildah bud --quiet --isolation chroot --network host --layers \
    "${arguments[@]}" --build-arg BASE="$base" --tag "$built" --file "$file" . >/dev/null
  buildah tag "$built" "localhost/kommuna/$name:$tag"
  echo "localhost/kommuna/$name:$tag"
done

#!/usr/bin/env bash
# Makes the base image of the tests by debootstrap, where no registry has one: the image's name is printed.
# The root file system is kept outside the tree, under the hash of this script. DEBIAN_MIRROR names another mirror than
# debootstrap's own.
set -euo pipefail
cache=${XDG_CACHE_HOME:-$HOME/.cache}/kommuna/base
hash=$(sha256sum "$0" | cut -c1-16)
image=localhost/kommuna-base:$hash
packages=python3,python3-venv,ca-certificates,git

mkdir -p "$cache"
exec 9>"$cache/.lock"
flock 9
if [ ! -f "$cache/$hash.tar" ]; then
  root=$(mktemp -d "$cache/root.XXXXXX")
  trap 'rm -rf "$root"' EXIT
  debootstrap --variant=minbase --include="$packages" bookworm "$root" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} >"$cache/$hash.log" 2>&1 \
    || { tail -5 "$cache/$hash.log" >&2; exit 1; }
  rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale} "$root"/var/log/*
  tar --create --file "$cache/$hash.tar.partial" --sort=name --numeric-owner --directory "$root" .
  mv "$cache/$hash.tar.partial" "$cache/$hash.tar"
fi
if ! buildah inspect --type image "$image" >/dev/null 2>&1; then
  folder=$(mktemp -d)
  ln "$cache/$hash.tar" "$folder/base.tar" 2>/dev/null || cp "$cache/$hash.tar" "$folder/base.tar"
  printf 'FROM scratch\nADD base.tar /\n' >"$folder/Dockerfile"
  buildah bud --quiet --isolation chroot --tag "$image" "$folder" >/dev/null
  rm -rf "$folder"
fi
echo "$image"

# Builds the Go programs, each from its own pinned module in go/NAME, and keeps them in a cache outside the tree.
#
# go/NAME has go.mod and go.sum, which pin everything by hash, and build.sh, which says what to build. A program's
# folder in the cache is named by the hash of those files. A build writes to a folder beside it and renames that
# at the end, so a build that was killed leaves no half program.

CACHE=${KOMMUNA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kommuna}/cluster/bin
GO_FLAGS=(-trimpath -buildvcs=false -mod=readonly)

# program_folder NAME: where the cache keeps the program, built or not.
program_folder() {
  local hash
  hash=$(cd "$HERE/go/$1" && { sha256sum -- *; echo "${GO_FLAGS[@]}"; } | sha256sum | cut -c1-16)
  echo "$CACHE/$hash/$1"
}

# build_programs NAME...: builds those that the cache lacks, one after the other.
build_programs() {
  local name
  for name in "$@"; do
    [ -d "$(program_folder "$name")" ] || (
      mkdir -p "$CACHE"
      exec 9>"$CACHE/.lock"
      flock 9 # one build at a time on a machine, and another `up` may be building the same
      [ -d "$(program_folder "$name")" ] || build_program "$name"
    )
  done
}

build_program() {
  local name=$1 began=$SECONDS folder log=$LOGS/build-$1.log
  folder=$(program_folder "$name")
  command -v go >/dev/null || fail "building $name needs Go 1.26 on PATH"
  mkdir -p "$LOGS"
  say "building $name, once (log: $log)"
  rm -rf "$CACHE/building-$name"
  compile "$name" "$CACHE/building-$name/$name" >"$log" 2>&1 || { tail -n 20 "$log" >&2; fail "$name did not build: $log"; }
  mv "$CACHE/building-$name" "$(dirname "$folder")"
  say "built $name in $((SECONDS - began)) s, $(du -sh "$folder" | cut -f1)"
}

# compile NAME FOLDER. A shell of its own, since `set -e` does not hold inside a condition.
compile() {
  (cd "$HERE/go/$1" && CGO_ENABLED=0 GOFLAGS='' GOTOOLCHAIN=local bash -euo pipefail -c '
    out=$1; shift
    version_of() { go list -m -f "{{.Version}}" "$1"; }
    packages=. stamps=
    finish() { :; }
    . ./build.sh
    mkdir -p "$out"
    nice -n 19 go build "$@" -ldflags "-s -w $stamps" -o "$out/" $packages
    finish
  ' compile "$2" "${GO_FLAGS[@]}")
}

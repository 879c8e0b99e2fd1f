# Images without a builder: a static program needs a layer that holds it and nothing else.

# archive_image NAME ARCHIVE PROGRAM...: an image archive of the programs, the first of which it runs.
archive_image() {
  local name=$1 archive=$2 work program layer
  shift 2
  work=$(mktemp -d "$DATA/image.XXXX")
  mkdir -p "$work/root"
  mkdir -m 1777 "$work/root/tmp"
  for program in "$@"; do ln "$program" "$work/root/" 2>/dev/null || cp "$program" "$work/root/"; done
  tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$work/root" -cf "$work/layer.tar" .
  layer=$(sha256sum "$work/layer.tar")
  cat >"$work/config.json" <<JSON
{"architecture": "$(dpkg --print-architecture)", "os": "linux",
 "config": {"Entrypoint": ["/$(basename "$1")"], "Env": ["PATH=/", "HOME=/tmp"]},
 "rootfs": {"type": "layers", "diff_ids": ["sha256:${layer%% *}"]}}
JSON
  echo "[{\"Config\": \"config.json\", \"RepoTags\": [\"$name\"], \"Layers\": [\"layer.tar\"]}]" >"$work/manifest.json"
  tar -C "$work" -cf "$archive" manifest.json config.json layer.tar
  rm -rf "$work"
}

# load_image NODE NAME ARCHIVE: into the node's containerd, under that name, ready for its kubelet.
load_image() {
  local node=$1 name=$2 archive=$3 imported
  imported=$(in_node "$node" ctr -n k8s.io images import - <"$archive" | sed -n 's/^unpacking \(.*\) (sha256.*/\1/p')
  [ -n "$imported" ] || fail "$archive holds no image"
  [[ $'\n'$imported$'\n' == *$'\n'$name$'\n'* ]] ||
    in_node "$node" ctr -n k8s.io images tag --force "${imported%%$'\n'*}" "$name" >/dev/null
  wait_for 20 "$name on $node" kubelet_sees "$node" "$name"
}

image_names() { in_node "$1" ctr -n k8s.io images ls -q; }
# containerd's part that talks to kubelets learns of an image a moment later, and then labels it.
kubelet_sees() { [[ $(in_node "$1" ctr -n k8s.io images ls "name==$2") == *io.cri-containerd.image=managed* ]]; }

# start_registry: in node0, by plain HTTP, for images that a test builds: a node pulls the layers that it lacks. What it
# holds is kept, by its hash, beside the built programs, so that an unchanged layer is not compressed and sent again.
start_registry() {
  local blobs=$CACHE/../registry
  mkdir -p "$blobs"
  find "$blobs" -type f -mtime +2 -delete
  start_in node0 registry "$(program_folder registry)/registry" "$REGISTRY" "$blobs"
  wait_for 20 "the registry" bash -c ": >/dev/tcp/${REGISTRY/://}"
}

# load_images NODE: what the cluster itself needs, the S3 server, and a shell for tests.
load_images() {
  local node=$1 minio
  minio=$(program_folder minio)
  load_static "$node" "$PAUSE_IMAGE" "$(program_folder pause)/pause"
  load_static "$node" "$COREDNS_IMAGE" "$(program_folder coredns)/coredns"
  load_static "$node" "$BUSYBOX_IMAGE" /bin/busybox
  load_static "$node" "$MINIO_IMAGE" "$minio/minio" "$minio/mc"
}

# load_static NODE NAME PROGRAM...: makes the image, once, and loads it.
load_static() {
  local node=$1 name=$2 archive=$DATA/images/${2##*/}
  shift 2
  mkdir -p "$DATA/images"
  [ -f "$archive" ] || archive_image "$name" "$archive" "$@"
  load_image "$node" "$name" "$archive"
}

# copy_images FROM TO: all images of one node into another, which unpacks one when a first pod needs it.
copy_images() {
  local names name
  mapfile -t names < <(image_names "$1" | grep ^localhost/)
  in_node "$1" ctr -n k8s.io images export - "${names[@]}" | in_node "$2" ctr -n k8s.io images import --no-unpack - >/dev/null
  for name in "${names[@]}"; do wait_for 60 "$name on $2" kubelet_sees "$2" "$name"; done
}

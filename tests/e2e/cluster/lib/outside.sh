# What the cluster leaves on the machine outside its nodes: the state folder, kernel settings, and their removal.

export KUBECONFIG=$STATE/kubeconfig
KUBECTL=$STATE/bin/kubectl

# One up or down at a time. A folder that every machine has is locked, so no lock file is left.
lock() {
  exec 8</var/tmp
  flock 8
}

# cluster_serves: whether an up ended well and the API server still answers; a busy one is asked again.
cluster_serves() {
  local _
  [ -e "$DATA/complete" ] && node_init node0 >/dev/null || return 1
  for _ in 1 2 3; do
    "$KUBECTL" --request-timeout 15s get --raw /readyz >/dev/null 2>&1 && return 0
    sleep 2
  done
  return 1
}

# write_env: links to the programs, and a file for the shell that names all that a test needs.
write_env() {
  local program
  mkdir -p "$STATE/bin"
  for program in kubernetes/kubectl helm/helm kubeconform/kubeconform minio/minio minio/mc; do
    ln -sf "$(program_folder "${program%/*}")/${program#*/}" "$STATE/bin/"
  done
  printf '[[registry]]\nlocation = "%s"\ninsecure = true\n' "$REGISTRY" >"$STATE/registries.conf"
  cat >"$STATE/env" <<SHELL
export KOMMUNA_CLUSTER_STATE=$STATE
export KOMMUNA_CLUSTER_LOGS=$LOGS
export KUBECONFIG=$KUBECONFIG
export PATH=$STATE/bin:\$PATH
export KOMMUNA_CLUSTER_API=$API              # the API server, from the machine and from pods
export KOMMUNA_CLUSTER_NODE_RANGE=${HOST_ADDRESS%.*}.0/24
export KOMMUNA_CLUSTER_POD_RANGE=$POD_RANGE
export KOMMUNA_CLUSTER_SERVICE_RANGE=$SERVICE_RANGE
export KOMMUNA_CLUSTER_DNS=$DNS_ADDRESS
export KOMMUNA_CLUSTER_HOST=$HOST_ADDRESS                   # the machine, from pods
export KOMMUNA_CLUSTER_SCHEMAS='$(program_folder kubernetes)/schemas/{{.ResourceKind}}{{.KindSuffix}}.json' # kubeconform -schema-location
export IMAGE_REGISTRY=$REGISTRY             # to push to, and for nodes to pull from
export CONTAINERS_REGISTRIES_CONF=$STATE/registries.conf # lets buildah push to it by plain HTTP
export KOMMUNA_IMAGE_BUSYBOX=$BUSYBOX_IMAGE # runs /busybox
export KOMMUNA_IMAGE_MINIO=$MINIO_IMAGE     # runs /minio; has /mc
SHELL
}

# What a kubelet sets in the whole machine's kernel.
SYSCTLS="vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops kernel.keys.root_maxkeys
  kernel.keys.root_maxbytes fs.inotify.max_user_instances fs.inotify.max_user_watches"

remember_machine() {
  mkdir -p "$DATA"
  # shellcheck disable=SC2086  # a list
  sysctl $SYSCTLS >"$DATA/sysctls" 2>/dev/null || true
  sysctl -qw fs.inotify.max_user_instances=1024 # two nodes' programs watch many files
}

restore_machine() {
  [ ! -s "$DATA/sysctls" ] || sysctl -qp "$DATA/sysctls" 2>/dev/null || true
}

# remove_cluster: nodes, bridge, files. Each part may be there or not.
remove_cluster() {
  local node
  for node in $(node_names); do remove_node "$node"; done
  remove_cgroups || fail "cgroups named $GROUP are in use by processes that the cluster did not start"
  remove_bridge
  restore_machine
  rm -rf --one-file-system "${DATA:?}"
  rm -rf "$STATE/bin" "$STATE/env" "$STATE/registries.conf" "$KUBECONFIG"
  rmdir "$STATE" 2>/dev/null || true
}

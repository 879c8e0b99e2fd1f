# Where everything is and how it is called; words that all other files use.

STATE=${KOMMUNA_CLUSTER_STATE:-/run/kommuna-e2e} # what the tests read: kubeconfig, env, bin
DATA=/var/tmp/kommuna-e2e                        # what the nodes write: images, volumes, etcd, keys
LOGS=${KOMMUNA_CLUSTER_LOGS:-$(cd "$HERE/../../.." && pwd)/build/e2e/logs}
GROUP=kommuna-e2e # the cgroup above all nodes

BRIDGE=kommuna0 # joins the machine (10.10.0.1) and the nodes
HOST_ADDRESS=10.10.0.1
declare -A ADDRESSES=([node0]=10.10.0.2 [node1]=10.10.0.3 [node2]=10.10.0.4)
POD_RANGE=10.244.0.0/16
SERVICE_RANGE=10.96.0.0/16
DNS_ADDRESS=10.96.0.10
API=https://${ADDRESSES[node0]}:6443
REGISTRY=${ADDRESSES[node0]}:5000 # as in config/containerd.toml

PAUSE_IMAGE=localhost/pause:e2e
COREDNS_IMAGE=localhost/coredns:e2e
BUSYBOX_IMAGE=localhost/busybox:e2e
MINIO_IMAGE=localhost/minio:e2e

say() { printf '%s %s\n' "$(date +%T)" "$*"; }
fail() {
  printf 'cluster: %s\n' "$*" >&2
  exit 1
}

# wait_for SECONDS WHAT COMMAND...: until the command succeeds.
wait_for() {
  local until=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$until" ] || fail "$what did not come up; see $LOGS"
    sleep 0.2
  done
}

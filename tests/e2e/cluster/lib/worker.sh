# What every node runs: containerd, kubelet, kube-proxy and Cilium's agent.

start_containerd() {
  local node=$1
  start_in "$node" containerd containerd --config "$HERE/config/containerd.toml"
  wait_for 20 "containerd on $node" in_node "$node" ctr version
}

# give_settings NODE: its keys, kubeconfigs and settings. node0 made its own.
give_settings() {
  local node=$1 home=$DATA/$1/lib/kubernetes from
  from=$(control_plane_home)
  if [ "$node" != node0 ]; then
    mkdir -p "$home/pki"
    cp "$from/pki/ca.crt" "$home/pki/"
    cp "$from/kube-proxy.conf" "$home/"
    in_node node0 "$BIN/kubeadm" kubeconfig user --config $KUBERNETES/kubeadm.yaml \
      --client-name "system:node:$node" --org system:nodes >"$home/kubelet.conf" 2>>"$LOGS/$node/kubeadm.log"
  fi
  cp "$from/super-admin.conf" "$home/cilium.conf"
  echo "nameserver 127.0.0.53" >"$home/resolv.conf"
  sed "s/@NODE@/$node/" "$HERE/config/kubelet.yaml" >"$home/kubelet.yaml"
  sed "s/@NODE@/$node/" "$HERE/config/kube-proxy.yaml" >"$home/kube-proxy.yaml"
}

start_kubelet() {
  local node=$1
  start_in "$node" kubelet "$BIN/kubelet" --config $KUBERNETES/kubelet.yaml --kubeconfig $KUBERNETES/kubelet.conf \
    --hostname-override "$node" --node-ip "${ADDRESSES[$node]}"
  start_in "$node" kube-proxy "$BIN/kube-proxy" --config $KUBERNETES/kube-proxy.yaml
}

# start_cilium NODE: the agent, and then its plugin's settings, which make the node Ready.
start_cilium() {
  local node=$1 home=$DATA/$1/lib program
  program=$(program_folder cilium)
  mkdir -p "$home/cilium"
  cp -r "$program/bpf" "$home/cilium/"
  ln -sf "$program/cilium-cni" /usr/lib/cni/loopback "$home/cni/bin/"
  start_in "$node" cilium env K8S_NODE_NAME="$node" CILIUM_K8S_NAMESPACE=kube-system \
    PATH="$(clang_folder "$node"):$PATH" "$program/cilium-agent" --config "$HERE/config/cilium.yaml"
  wait_for 90 "Cilium on $node" [ -S "/proc/$(node_init "$node")/root/run/cilium/cilium.sock" ]
  # Written in place: containerd 1.6 can miss the agent's own file, which is renamed into place.
  echo '{"cniVersion": "0.3.1", "name": "cilium", "plugins": [{"type": "cilium-cni", "log-file": "/var/log/cilium-cni.log"}]}' \
    >"$home/cni/net.d/05-cilium.conflist"
}

# Cilium calls `clang`; Debian's has its version in the name.
clang_folder() {
  mkdir -p "$DATA/$1/lib/clang"
  ln -sf /usr/bin/clang-19 "$DATA/$1/lib/clang/clang"
  ln -sf /usr/bin/llc-19 "$DATA/$1/lib/clang/llc"
  echo /var/lib/clang
}

node_ready() { "$KUBECTL" wait --for=condition=Ready "node/$1" --timeout=1s; }

# start_node NODE: all of it, until it is Ready.
start_node() {
  local node=$1
  give_settings "$node"
  start_kubelet "$node"
  start_cilium "$node"
  wait_for 60 "$node" node_ready "$node"
  route_pods "$node"
}

# etcd, API server, controller manager and scheduler, as processes of node0, each logging to its /var/log.

KUBERNETES=/var/lib/kubernetes # in every node: keys, kubeconfigs, settings
PKI=$KUBERNETES/pki
BIN=$(program_folder kubernetes)

# The folder of node0 that holds $KUBERNETES, as the machine sees it.
control_plane_home() { echo "$DATA/node0/lib/kubernetes"; }

make_keys() {
  local home
  home=$(control_plane_home)
  mkdir -p "$home"
  cp "$HERE/config/kubeadm.yaml" "$HERE/config/audit.yaml" "$home/"
  {
    in_node node0 "$BIN/kubeadm" init phase certs all --config $KUBERNETES/kubeadm.yaml
    in_node node0 "$BIN/kubeadm" init phase kubeconfig all --config $KUBERNETES/kubeadm.yaml --kubeconfig-dir $KUBERNETES
    in_node node0 "$BIN/kubeadm" kubeconfig user --config $KUBERNETES/kubeadm.yaml --client-name system:kube-proxy >"$home/kube-proxy.conf"
  } >"$LOGS/node0/kubeadm.log" 2>&1
}

start_control_plane() {
  start_in node0 etcd "$BIN/etcd" --data-dir /var/lib/etcd --unsafe-no-fsync \
    --listen-client-urls https://127.0.0.1:2379 --advertise-client-urls https://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
    --initial-cluster default=http://127.0.0.1:2380 \
    --cert-file $PKI/etcd/server.crt --key-file $PKI/etcd/server.key --trusted-ca-file $PKI/etcd/ca.crt --client-cert-auth

  # A lost node's pods are evicted after 5 s, where the defaults would take over five minutes. The API server
  # calls kubelets by address: nobody resolves a node's name, and logs and exec would hang.
  start_in node0 kube-apiserver "$BIN/kube-apiserver" --advertise-address "${ADDRESSES[node0]}" --secure-port 6443 \
    --service-cluster-ip-range $SERVICE_RANGE --allow-privileged --authorization-mode Node,RBAC \
    --enable-admission-plugins NodeRestriction,PodSecurity,ResourceQuota,LimitRanger,ValidatingAdmissionPolicy \
    --default-unreachable-toleration-seconds 5 --default-not-ready-toleration-seconds 5 \
    --kubelet-preferred-address-types InternalIP,Hostname \
    --audit-policy-file $KUBERNETES/audit.yaml --audit-log-path /var/log/audit.log --audit-log-maxsize 50 --audit-log-maxbackup 1 \
    --etcd-servers https://127.0.0.1:2379 --etcd-cafile $PKI/etcd/ca.crt \
    --etcd-certfile $PKI/apiserver-etcd-client.crt --etcd-keyfile $PKI/apiserver-etcd-client.key \
    --client-ca-file $PKI/ca.crt --tls-cert-file $PKI/apiserver.crt --tls-private-key-file $PKI/apiserver.key \
    --kubelet-client-certificate $PKI/apiserver-kubelet-client.crt --kubelet-client-key $PKI/apiserver-kubelet-client.key \
    --service-account-issuer https://kubernetes.default.svc.cluster.local \
    --service-account-key-file $PKI/sa.pub --service-account-signing-key-file $PKI/sa.key \
    --requestheader-client-ca-file $PKI/front-proxy-ca.crt --requestheader-allowed-names front-proxy-client \
    --requestheader-username-headers X-Remote-User --requestheader-group-headers X-Remote-Group \
    --requestheader-extra-headers-prefix X-Remote-Extra- \
    --proxy-client-cert-file $PKI/front-proxy-client.crt --proxy-client-key-file $PKI/front-proxy-client.key
  wait_for 90 "the API server" "$KUBECTL" get --raw /readyz

  local conf=$KUBERNETES/controller-manager.conf
  start_in node0 kube-controller-manager "$BIN/kube-controller-manager" --leader-elect=false \
    --kubeconfig $conf --authentication-kubeconfig $conf --authorization-kubeconfig $conf \
    --allocate-node-cidrs --cluster-cidr $POD_RANGE --node-monitor-grace-period 20s \
    --use-service-account-credentials --service-account-private-key-file $PKI/sa.key --root-ca-file $PKI/ca.crt \
    --cluster-signing-cert-file $PKI/ca.crt --cluster-signing-key-file $PKI/ca.key
  conf=$KUBERNETES/scheduler.conf
  start_in node0 kube-scheduler "$BIN/kube-scheduler" --leader-elect=false \
    --kubeconfig $conf --authentication-kubeconfig $conf --authorization-kubeconfig $conf
}

# apply_basics: Cilium's kinds, DNS, and the group of admin.conf as kubeadm would bind it.
apply_basics() {
  {
    "$KUBECTL" create clusterrolebinding kubeadm:cluster-admins --clusterrole cluster-admin --group kubeadm:cluster-admins
    "$KUBECTL" apply --server-side -f "$(program_folder cilium)/crds"
    "$KUBECTL" apply -f "$HERE/config/coredns.yaml"
  } >"$LOGS/basics.log" 2>&1 || fail "the cluster's own objects: $LOGS/basics.log"
}

version=$(version_of k8s.io/kubernetes)
stamp=k8s.io/component-base/version
stamps="-X $stamp.gitVersion=$version -X $stamp.gitMajor=1 -X $stamp.gitMinor=34"

finish() {
  local program
  for program in etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl kubeadm; do
    ln -s kubernetes "$out/$program"
  done
  python3 schemas.py "$(go list -m -f '{{.Dir}}' k8s.io/kubernetes)/api/openapi-spec/swagger.json" "$out/schemas"
}

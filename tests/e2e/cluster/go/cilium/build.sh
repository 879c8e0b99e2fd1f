packages="github.com/cilium/cilium/daemon github.com/cilium/cilium/plugins/cilium-cni"
version=$(version_of github.com/cilium/cilium)
stamps="-X 'github.com/cilium/cilium/pkg/version.ciliumVersion=${version#v} 0 1970-01-01T00:00:00+00:00'"

# The agent compiles its eBPF programs where it runs, so it needs their sources; the API server needs the CRDs.
finish() {
  local source
  source=$(go list -m -f '{{.Dir}}' github.com/cilium/cilium)
  mv "$out/daemon" "$out/cilium-agent"
  mkdir "$out/crds"
  cp "$source"/pkg/k8s/apis/cilium.io/client/crds/v2*/*.yaml "$out/crds/"
  cp -r "$source/bpf" "$out/bpf"
  chmod -R u+w "$out"
}

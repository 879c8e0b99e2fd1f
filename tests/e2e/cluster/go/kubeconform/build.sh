packages=github.com/yannh/kubeconform/cmd/kubeconform
stamps="-X main.version=$(version_of github.com/yannh/kubeconform)"

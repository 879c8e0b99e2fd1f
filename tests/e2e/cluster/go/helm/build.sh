packages=helm.sh/helm/v4/cmd/helm
stamps="-X helm.sh/helm/v4/internal/version.version=$(version_of helm.sh/helm/v4)"

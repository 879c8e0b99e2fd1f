packages=github.com/coredns/coredns

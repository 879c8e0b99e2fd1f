# Debian's packages: the container runtime, what its network needs, and the compiler of Cilium's eBPF programs.

PACKAGES="containerd runc containernetworking-plugins iptables nftables ipset conntrack ethtool iproute2 kmod socat
  util-linux busybox-static clang-19 llvm-19 bpftool buildah debootstrap git ca-certificates"

install_packages() {
  local missing=() name
  for name in $PACKAGES; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing ${missing[*]}"
  {
    apt-get -q update
    DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "${missing[@]}"
  } >"$LOGS/packages.log" 2>&1 || {
    tail -n 20 "$LOGS/packages.log" >&2
    fail "apt-get install: $LOGS/packages.log"
  }
}

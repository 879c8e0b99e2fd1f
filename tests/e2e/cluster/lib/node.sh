# A node: its own network, mount, process, host name and IPC namespaces, held by one process (`pause`, its init).
#
# Kill that process, and the kernel ends all others in the node, unmounts all that they mounted and removes its
# network: nothing has to be undone by hand. Inside, /run, /var/lib and /var/log are the node's own folders, so
# every program finds its usual places, two nodes do not meet, and the machine sees none of it.

node_names() { printf '%s\n' "${!ADDRESSES[@]}" | sort; }
node_mark() { echo "kommuna-e2e-$1"; }

# node_init NODE: the process id of its init; fails when the node is not up.
node_init() {
  local pid
  pid=$(cat "$DATA/$1.pid" 2>/dev/null) && grep -qzx "$(node_mark "$1")" "/proc/$pid/cmdline" 2>/dev/null && echo "$pid"
}

# in_node NODE COMMAND...: runs it there, in the foreground.
in_node() {
  local pid
  pid=$(node_init "$1") || fail "$1 is not up"
  shift
  nsenter --target "$pid" --mount --net --pid --uts --ipc -- "$@" 8>&- # what runs on must not hold our lock
}

# start_in NODE NAME COMMAND...: runs it there, in the background, logging to its /var/log/NAME.log.
start_in() {
  local node=$1 name=$2
  shift 2
  in_node "$node" bash -c 'log=$1; shift; setsid "$@" >>"$log" 2>&1 </dev/null &' start "/var/log/$name.log" "$@"
}

create_node() {
  local node=$1 home=$DATA/$1 pause
  pause=$(program_folder pause)/pause
  mkdir -p "$home"/lib/cni/{bin,net.d} "$LOGS/$node"
  create_cgroup "$node"
  setsid unshare --mount --net --pid --uts --ipc --fork --kill-child --mount-proc \
    bash -euc "$(declare -f furnish_node); furnish_node \"\$@\"" furnish "$node" "$home" "$LOGS/$node" "$pause" "$(node_mark "$node")" \
    >"$LOGS/$node/node.log" 2>&1 </dev/null 8>&- &
  wait_for 30 "$node" remember_init "$node" $!
  connect_node "$node"
}

# Runs inside the new namespaces; ends as the node's init.
furnish_node() {
  local node=$1 home=$2 logs=$3 pause=$4 mark=$5
  hostname "$node"
  mount --make-rshared / # volumes that a pod mounts show in another that asks for them
  mount --bind "$logs" /var/log
  mount --bind "$home/lib" /var/lib
  mount -t tmpfs -o mode=755 run /run
  mkdir -p /run/cilium/bpffs
  mount -t bpf bpf /run/cilium/bpffs
  ip link set lo up
  sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
  exec "$pause" "$mark"
}

# remember_init NODE UNSHARE: notes the init's process id once it has become that.
remember_init() {
  local pid
  pid=$(cat "/proc/$2/task/$2/children") && pid=${pid%% *} && [ "$(cat "/proc/$pid/comm")" = pause ] || return 1
  echo "$pid" >"$DATA/$1.pid"
}

# A cgroup of its own in every v1 hierarchy: two kubelets below one would delete each other's pods.
create_cgroup() {
  local controller file
  for controller in /sys/fs/cgroup/*/; do
    mkdir -p "$controller$GROUP/$1" 2>/dev/null || continue # the empty v2 hierarchy may refuse
    [ -f "$controller/cpuset.cpus" ] || continue
    for file in cpuset.cpus cpuset.mems; do
      cat "$controller$file" >"$controller$GROUP/$file"
      cat "$controller$file" >"$controller$GROUP/$1/$file"
    done
  done
}

# end_node NODE: ends everything in it, whatever state it is in; its files stay.
end_node() {
  local node=$1 pids
  mapfile -t pids < <(processes_of "$node")
  [ ${#pids[@]} = 0 ] || kill -KILL "${pids[@]}" 2>/dev/null || true
  wait_for 60 "the end of $node" have_ended "${pids[@]}"
  wait_for 60 "the end of $node's cgroups" remove_cgroups "$node"
  ip link delete "$node" 2>/dev/null || true
}

# remove_node NODE: ends it and removes its files.
remove_node() {
  end_node "$1"
  rm -rf --one-file-system "${DATA:?}/$1" "${DATA:?}/$1.pid"
}

# The init, and `unshare`, which waits for it: found by their mark, also when up was killed before it noted the pid.
# The brackets keep the search from finding itself.
processes_of() {
  local mark pid
  mark=$(node_mark "$1")
  grep -lzx -- "[${mark::1}]${mark:1}" /proc/[0-9]*/cmdline 2>/dev/null | while IFS=/ read -r _ _ pid _; do echo "$pid"; done
}

# have_ended PID...: whether each is gone or only waits for its parent. A killed init loses its command line at once,
# but stays until the kernel has ended the last process of its namespace.
have_ended() {
  local pid
  for pid; do
    [ ! -e "/proc/$pid" ] || grep -qs '^State:[[:space:]]*[ZX]' "/proc/$pid/status" || [ ! -e "/proc/$pid" ] || return 1
  done
}

# remove_cgroups [NODE]: leaf first; without a node, the one above all. What still runs in one keeps it: try again.
remove_cgroups() {
  local left=0 folder
  for folder in /sys/fs/cgroup/*/"$GROUP${1:+/$1}"; do
    [ -d "$folder" ] || continue
    find "$folder" -depth -type d -exec rmdir {} + 2>/dev/null || left=1
  done
  return $left
}

# A bridge on the machine, with a port for each node: the machine reaches nodes, pods and services over it.

create_bridge() {
  ip link show "$BRIDGE" >/dev/null 2>&1 && return 0
  ip link add "$BRIDGE" type bridge
  ip address add "$HOST_ADDRESS/24" dev "$BRIDGE"
  ip link set "$BRIDGE" up
}

# connect_node NODE: a cable from the bridge to the node's eth0, and routes from the machine to what is behind it.
connect_node() {
  local node=$1 address=${ADDRESSES[$1]} pid
  pid=$(node_init "$node")
  ip link add "$node" type veth peer name eth0 netns "$pid"
  ip link set "$node" master "$BRIDGE" up
  in_node "$node" ip address add "$address/24" dev eth0
  in_node "$node" ip link set eth0 up
  in_node "$node" ip route add default via "$HOST_ADDRESS"
  [ "$node" != node0 ] || ip route replace "$SERVICE_RANGE" via "$address"
}

# route_pods NODE: the machine's route to the node's pods, once the controller manager has given it their range.
route_pods() {
  wait_for 30 "the pod range of $1" has_pod_range "$1"
  ip route replace "$(pod_range "$1")" via "${ADDRESSES[$1]}"
}
pod_range() { "$KUBECTL" get node "$1" -o jsonpath='{.spec.podCIDR}'; }
has_pod_range() { [ -n "$(pod_range "$1")" ]; }

remove_bridge() { ip link delete "$BRIDGE" 2>/dev/null || true; }

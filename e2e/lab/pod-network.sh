# What kindnet sets up, for nodes whose image could not bring it: ptp + host-local on the node, one route to every other
# node's pod range, and a masquerade for what leaves the pod network (so that answers from outside find back).
# usage, inside the node: sh -s OWN_RANGE POD_SUBNET [RANGE NODE_ADDRESS]...        Running it again changes nothing.
# With two families OWN_RANGE and POD_SUBNET are IPV4,IPV6.
set -eu
own=${1%%,*} subnet=${2%%,*}
own6=${1#"$own"} subnet6=${2#"$subnet"}
own6=${own6#,} subnet6=${subnet6#,}
shift 2
while [ $# -ge 2 ]; do
  ip route replace "$1" via "$2"
  shift 2
done
masquerade() {
  nft -f - <<NFT
table $1 lab
delete table $1 lab
table $1 lab {
  chain postrouting {
    type nat hook postrouting priority srcnat
    policy accept
    $1 saddr $2 $1 daddr != $3 fib daddr type != local masquerade
  }
}
NFT
}
masquerade ip "$own" "$subnet"
routes='{"dst": "0.0.0.0/0"}' ranges="[{\"subnet\": \"$own\"}]"
if [ -n "$own6" ]; then
  masquerade ip6 "$own6" "$subnet6"
  routes="$routes, {\"dst\": \"::/0\"}" ranges="$ranges, [{\"subnet\": \"$own6\"}]"
fi
mkdir -p /etc/cni/net.d
# Last: the node becomes Ready when containerd sees it. Written in place, because containerd looks again after a write and
# not after a rename.
cat >/etc/cni/net.d/10-lab.conflist <<CNI
{"cniVersion": "0.4.0", "name": "lab", "plugins": [
  {"type": "ptp", "ipMasq": false, "mtu": 1500, "ipam": {
    "type": "host-local", "dataDir": "/run/cni-ipam",
    "routes": [$routes], "ranges": [$ranges]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
CNI

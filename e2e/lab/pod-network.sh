# What kindnet sets up, for nodes whose image could not bring it: ptp + host-local on the node, one route to every other
# node's pod range, and a masquerade for what leaves the pod network (so that answers from outside find back).
# usage, inside the node: sh -s OWN_RANGE POD_SUBNET [RANGE NODE_ADDRESS]...        Running it again changes nothing.
set -eu
own=$1 subnet=$2
shift 2
while [ $# -ge 2 ]; do
  ip route replace "$1" via "$2"
  shift 2
done
nft -f - <<NFT
table ip lab
delete table ip lab
table ip lab {
  chain postrouting {
    type nat hook postrouting priority srcnat
    policy accept
    ip saddr $own ip daddr != $subnet fib daddr type != local masquerade
  }
}
NFT
mkdir -p /etc/cni/net.d
# Last: the node becomes Ready when containerd sees it. Written in place, because containerd looks again after a write and
# not after a rename.
cat >/etc/cni/net.d/10-lab.conflist <<CNI
{"cniVersion": "0.4.0", "name": "lab", "plugins": [
  {"type": "ptp", "ipMasq": false, "mtu": 1500, "ipam": {
    "type": "host-local", "dataDir": "/run/cni-ipam",
    "routes": [{"dst": "0.0.0.0/0"}], "ranges": [[{"subnet": "$own"}]]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
CNI

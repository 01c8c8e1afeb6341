# shellcheck shell=bash
# Pod network and names for nodes that were built here; kind's own node image brings both.

set_up_network() {
  answer_cluster_names_only
  connect_pod_ranges
}

# A node's resolver is Docker's, on loopback: CoreDNS would forward to itself. What is not the cluster's is refused.
answer_cluster_names_only() {
  kubectl --namespace kube-system get configmap coredns --output jsonpath='{.data.Corefile}' \
    | sed '/^ *forward /,/^ *}/d' \
    | kubectl --namespace kube-system create configmap coredns --from-file=Corefile=/dev/stdin --dry-run=client -o yaml \
    | kubectl replace --filename -
}

# A bridge on each node's own range of addresses, and a route from each node to the range of the other.
connect_pod_ranges() {
  local -A range address
  local node other
  for node in $(kind get nodes --name "$CLUSTER_NAME"); do
    wait_until 60 has_pod_range "$node"
    range[$node]=$(kubectl get node "$node" --output jsonpath='{.spec.podCIDR}')
    address[$node]=$(kubectl get node "$node" \
      --output jsonpath='{.status.addresses[?(@.type=="InternalIP")].address}')
  done
  for node in "${!range[@]}"; do
    bridge_configuration "${range[$node]}" | docker exec -i "$node" sh -c 'cat >/etc/cni/net.d/10-bridge.conflist'
    for other in "${!range[@]}"; do
      [[ $other == "$node" ]] || docker exec "$node" ip route replace "${range[$other]}" via "${address[$other]}"
    done
  done
}

has_pod_range() {
  [[ -n $(kubectl get node "$1" --output jsonpath='{.spec.podCIDR}') ]]
}

bridge_configuration() {
  cat <<JSON
{"cniVersion": "1.0.0", "name": "bridge", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "$1"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON
}

# shellcheck shell=bash
# The kind cluster itself: two nodes with a network, names and volumes.

CLUSTER_MADE_OF="$CLUSTER_HOME/run/$CLUSTER_NAME.made-of"

# cluster_is_usable: it was made of the present files, and every node and system pod answers.
cluster_is_usable() {
  [[ -f "$CLUSTER_MADE_OF" && $(<"$CLUSTER_MADE_OF") == "$(made_of)" ]] || return 1
  [[ -n $(docker ps --quiet --filter "label=io.x-k8s.kind.cluster=$CLUSTER_NAME") ]] || return 1
  kubectl --request-timeout 5s wait --for condition=Ready nodes --all --timeout 15s
}

made_of() {
  echo "$NODE_IMAGE $(hash_of "$HERE/kind.yaml" "$HERE/network.sh")"
}

create_cluster() {
  rm -f "$CLUSTER_MADE_OF"
  kind delete cluster --name "$CLUSTER_NAME"
  configuration | kind create cluster --name "$CLUSTER_NAME" --image "$NODE_IMAGE" --config - --kubeconfig "$KUBECONFIG"
}

configuration() {
  cat "$HERE/kind.yaml"
  [[ $IS_STOCK == yes ]] || printf 'networking:\n  disableDefaultCNI: true\n'
}

wait_for_system() {
  kubectl wait --for condition=Ready nodes --all --timeout 120s
  kubectl --namespace kube-system rollout status deployment/coredns --timeout 120s
  kubectl --namespace local-path-storage rollout status deployment/local-path-provisioner --timeout 120s
  made_of >"$CLUSTER_MADE_OF"
}

delete_cluster() {
  rm -f "$CLUSTER_MADE_OF"
  kind delete cluster --name "$CLUSTER_NAME" --kubeconfig "$KUBECONFIG"
}

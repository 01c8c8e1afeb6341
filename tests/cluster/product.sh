# shellcheck shell=bash
# The product's image: built from the checkout, named by its content, loaded into every node that lacks it.

PRODUCT=experience-buffer

# build_product: sets PRODUCT_TAG. The tag is the image's own digest, so that an unchanged tree changes no pod.
build_product() {
  docker build --network host --target cpu --tag "$PRODUCT:dev" "$REPOSITORY"
  PRODUCT_TAG=$(docker image inspect --format '{{.Id}}' "$PRODUCT:dev" | cut -d: -f2 | cut -c1-12)
  docker tag "$PRODUCT:dev" "$PRODUCT:$PRODUCT_TAG"
}

# load_image IMAGE: into the nodes that do not have it yet, all at once, and of its layers only what each node lacks.
load_image() {
  local archive="$CLUSTER_HOME/run/load.tar" node job jobs=()
  for node in $(kind get nodes --name "$CLUSTER_NAME"); do
    node_has_image "$node" "$1" && continue
    [[ ${#jobs[@]} -gt 0 ]] || docker save --output "$archive" "$1"
    load_into_node "$node" "$archive" &
    jobs+=($!)
  done
  for job in "${jobs[@]}"; do wait "$job"; done
  rm -f "$archive"
}

# The whole archive helps where a layer was collected as garbage between the question and the answer.
load_into_node() {
  in_containerd "$1" content list --quiet | python3 "$HERE/new_layers.py" "$2" | in_containerd "$1" images import - \
    || in_containerd "$1" images import --all-platforms - <"$2"
}

node_has_image() {
  in_containerd "$1" images list --quiet </dev/null | grep -xF "docker.io/library/$2"
}

in_containerd() {
  docker exec --interactive "$1" ctr --namespace k8s.io "${@:2}"
}

# shellcheck shell=bash
# The images of the cluster itself: pulled where a registry answers, otherwise built from Debian's packages.

# ensure_base_image: what the product's Dockerfile starts from.
ensure_base_image() {
  has_image "$BASE_IMAGE" && return
  pull "$BASE_IMAGE" && return
  bootstrap_base_image
}

# The certificates of this machine go in, so that builds work where traffic is inspected on the way.
bootstrap_base_image() {
  require debootstrap debootstrap
  local root
  root=$(mktemp -d "$CLUSTER_HOME/kept/unfinished.XXXXXX")
  chmod 755 "$root"
  debootstrap --variant=minbase --include=ca-certificates "$BASE_SUITE" "$root"
  cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
  keep_it_slim "$root"
  tar -C "$root" -c . | docker import --change 'CMD ["bash"]' - "$BASE_IMAGE"
  rm -rf "$root"
}

# What makes the published image small: no documentation, and no caches of apt's, now and in layers on top.
keep_it_slim() {
  cat >"$1/etc/dpkg/dpkg.cfg.d/slim" <<'EOF'
path-exclude /usr/share/doc/*
path-exclude /usr/share/man/*
path-exclude /usr/share/locale/*
EOF
  cat >"$1/etc/apt/apt.conf.d/slim" <<'EOF'
Acquire::Languages "none";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb"; };
EOF
  rm -rf "$1"/var/cache/apt/*.bin "$1"/var/cache/apt/archives/*.deb "$1"/var/lib/apt/lists/*
  rm -rf "$1"/usr/share/{doc,man,locale}/*
}

# choose_node_image: sets NODE_IMAGE, and IS_STOCK to yes for kind's own.
# shellcheck disable=SC2034
choose_node_image() {
  NODE_IMAGE="experience-buffer-node:$KUBERNETES_VERSION-$(hash_of "$HERE"/{node,kubernetes,coredns,versions.sh})"
  IS_STOCK=no
  has_image "$NODE_IMAGE" && return
  if has_image "$STOCK_NODE_IMAGE" || pull "$STOCK_NODE_IMAGE"; then
    NODE_IMAGE=$STOCK_NODE_IMAGE
    IS_STOCK=yes
  fi
}

has_image() {
  docker image inspect "$1" >/dev/null 2>&1
}

pull() {
  timeout 900 docker pull "$1"
}

# build_node_image: NODE_IMAGE from node/, the programs, and the images that a node must have from the start.
build_node_image() {
  local folder pause images
  folder=$(mktemp -d "$CLUSTER_HOME/kept/unfinished.XXXXXX")
  cp "$HERE"/node/* "$folder"
  cp -L "$CLUSTER_HOME"/bin/{kube,coredns,local-path-provisioner} "$folder"
  mapfile -t images < <(kubeadm_images)
  build_component_images "$folder" "${images[@]}"
  docker save --output "$folder/images.tar" "${images[@]}" "local-path-provisioner:$LOCAL_PATH_VERSION" "$BASE_IMAGE"
  pause=$(printf '%s\n' "${images[@]}" | grep /pause:)
  sed -i "s|@PAUSE_IMAGE@|$pause|" "$folder/containerd.toml"
  sed -i "s|@LOCAL_PATH_VERSION@|$LOCAL_PATH_VERSION|" "$folder/storage.yaml"
  build_image "$NODE_IMAGE" "$folder/Dockerfile" --build-arg "KUBERNETES_VERSION=$KUBERNETES_VERSION"
  rm -rf "$folder"
}

kubeadm_images() {
  (exec -a kubeadm "$CLUSTER_HOME/bin/kube" config images list --kubernetes-version "$KUBERNETES_VERSION")
}

# build_component_images FOLDER IMAGE…: one image with every program, under each name that kubeadm expects.
build_component_images() {
  local folder=$1 all=experience-buffer-components name
  shift
  build_image "$all" "$folder/components.Dockerfile"
  for name in "$@" "local-path-provisioner:$LOCAL_PATH_VERSION"; do
    case $name in
      */pause:*) build_with_entrypoint "$name" "$BASE_IMAGE" '["sleep", "infinity"]' ;;
      */coredns:*) build_with_entrypoint "$name" "$all" '["coredns"]' ;;
      local-path-provisioner:*) build_with_entrypoint "$name" "$all" '["local-path-provisioner"]' ;;
      *) docker tag "$all" "$name" ;;
    esac
  done
}

build_with_entrypoint() {
  printf 'FROM %s\nENTRYPOINT %s\n' "$2" "$3" | docker build --tag "$1" -
}

# build_image NAME DOCKERFILE [OPTION…]: from the folder that the Dockerfile is in.
build_image() {
  docker build --network host --tag "$1" --file "$2" "${@:3}" "$(dirname "$2")"
}

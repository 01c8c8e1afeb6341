#!/bin/bash
# Command line tools, built once by Go and kept by version. Executed, it provides the named tools (all of them when
# none is named) and prints the folder they are in.

[[ -n "${HERE:-}" ]] || source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# provide TOOL: puts TOOL into $CLUSTER_HOME/bin.
provide() {
  case $1 in
    kind) go_tool kind "sigs.k8s.io/kind@$KIND_VERSION" ;;
    helm) go_tool helm "helm.sh/helm/v4/cmd/helm@$HELM_VERSION" ;;
    kubeconform) go_tool kubeconform "github.com/yannh/kubeconform/cmd/kubeconform@$KUBECONFORM_VERSION" ;;
    local-path-provisioner)
      go_tool local-path-provisioner "github.com/rancher/local-path-provisioner@$LOCAL_PATH_VERSION"
      ;;
    coredns) go_module coredns "$HERE/coredns" "-s -w" ;;
    kube) go_module kube "$HERE/kubernetes" "-s -w $(kube_version_flags)" ;;
    kubectl)
      provide kube
      ln -sfn kube "$CLUSTER_HOME/bin/kubectl"
      ;;
    *) fail "no such tool: $1" ;;
  esac
}

# go_tool NAME MODULE@VERSION: a program that its own module builds.
go_tool() {
  local kept="$1-${2##*@}"
  keep "$kept" build_go_tool "$2"
  ln -sfn "../kept/$kept/$1" "$CLUSTER_HOME/bin/$1"
}

build_go_tool() {
  ensure_go
  CGO_ENABLED=0 GOTOOLCHAIN=auto GOBIN=$2 go install "$1"
}

# go_module NAME FOLDER LDFLAGS: a program whose source is in FOLDER.
go_module() {
  local kept
  kept="$1-$(hash_of "$2")"
  keep "$kept" build_go_module "$1" "$2" "$3"
  ln -sfn "../kept/$kept/$1" "$CLUSTER_HOME/bin/$1"
}

build_go_module() {
  ensure_go
  (cd "$2" && CGO_ENABLED=0 GOTOOLCHAIN=auto go build -trimpath -ldflags "$3" -o "$4/$1" .)
}

kube_version_flags() {
  local package=k8s.io/component-base/version version=${KUBERNETES_VERSION#v}
  local minor=${version#*.}
  printf -- '-X %s.%s ' "$package" "gitVersion=v$version" "$package" "gitMajor=${version%%.*}"
  printf -- '-X %s.%s' "$package" "gitMinor=${minor%%.*}"
}

# ensure_go: from 1.21 on, Go fetches the toolchain that a go.mod asks for; Debian 12 itself has 1.19.
ensure_go() {
  [[ -f /etc/ssl/certs/ca-certificates.crt ]] || install_packages ca-certificates
  go_is_new_enough && return
  go_from_backports || true
  hash -r
  go_is_new_enough || fail "Go 1.21 or newer is needed (neither on the PATH nor in $BASE_SUITE-backports)"
}

go_is_new_enough() {
  local version
  version=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null) || return 1
  [[ $version =~ ^go1\.([0-9]+) ]] && ((BASH_REMATCH[1] >= 21))
}

# Backports come from the mirror that this machine already uses, through a source list that is gone afterwards.
go_from_backports() {
  local mirror list
  # shellcheck disable=SC2016
  mirror=$(apt-get indextargets --format '$(SITE)' "Created-By: Packages" "Codename: $BASE_SUITE" | head -n 1)
  list=$(mktemp)
  { cat /etc/apt/sources.list 2>/dev/null || true; echo "deb $mirror $BASE_SUITE-backports main"; } >"$list"
  apt-get -o Dir::Etc::SourceList="$list" update
  DEBIAN_FRONTEND=noninteractive apt-get -o Dir::Etc::SourceList="$list" install -y --no-install-recommends \
    -t "$BASE_SUITE-backports" golang-go
  rm -f "$list"
}

if [[ "${BASH_SOURCE[0]}" == "$0" ]]; then
  [[ $# -gt 0 ]] || set -- kind helm kubeconform kubectl
  for tool in "$@"; do
    provide "$tool" >&2
  done
  echo "$CLUSTER_HOME/bin"
fi

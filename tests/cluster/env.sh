#!/bin/bash
# Where the cluster's tools, daemon and kubeconfig are.
# Sourced, it sets them; executed, it prints them: eval "$(tests/cluster/env.sh)"

CLUSTER_HOME="${XBUF_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/experience-buffer}/cluster"
export CLUSTER_HOME
export CLUSTER_NAME="${CLUSTER_NAME:-experience-buffer}"
export KUBECONFIG="$CLUSTER_HOME/kubeconfig"
case ":$PATH:" in
  *":$CLUSTER_HOME/bin:"*) ;;
  *) export PATH="$CLUSTER_HOME/bin:$PATH" ;;
esac
# The socket is there exactly while the daemon is ours; without it the machine's own daemon is meant.
if [[ -S "$CLUSTER_HOME/run/docker.sock" ]]; then
  export DOCKER_HOST="unix://$CLUSTER_HOME/run/docker.sock"
fi

if [[ "${BASH_SOURCE[0]}" == "$0" ]]; then
  for name in CLUSTER_HOME CLUSTER_NAME KUBECONFIG PATH DOCKER_HOST; do
    [[ -z "${!name:-}" ]] || printf 'export %s=%q\n' "$name" "${!name}"
  done
fi

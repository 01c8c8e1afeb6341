# shellcheck shell=bash
# A Docker daemon for the cluster alone, started only where none answers: its own socket, data and process id,
# so that it can be stopped without touching anything else.

DOCKERD_PID="$CLUSTER_HOME/run/dockerd.pid"
DOCKERD_SOCKET="$CLUSTER_HOME/run/docker.sock"
CONTAINERD_PID="$CLUSTER_HOME/run/docker/containerd/containerd.pid"

ensure_docker() {
  docker_answers && return
  ((EUID == 0)) || fail "no Docker daemon answers, and only root can start one"
  require dockerd docker.io
  require iptables iptables
  # Installing it may have started it.
  docker_answers && return
  start_dockerd
  export DOCKER_HOST="unix://$DOCKERD_SOCKET"
  wait_until 60 docker info
}

docker_answers() {
  command -v docker && docker info
} >/dev/null 2>&1

start_dockerd() {
  ((${#DOCKERD_SOCKET} < 100)) || fail "the cache folder's path is too long for a socket: $CLUSTER_HOME"
  dockerd_is_ours && return
  clear_remains
  write_daemon_configuration
  nohup setsid dockerd --config-file "$CLUSTER_HOME/run/daemon.json" --host "unix://$DOCKERD_SOCKET" \
    --data-root "$CLUSTER_HOME/docker" --exec-root "$CLUSTER_HOME/run/docker" --pidfile "$DOCKERD_PID" \
    </dev/null >"$LOG/dockerd.log" 2>&1 3>&- 9>&- &
}

# Of a daemon that was killed: its containerd may still be about to end, and a new daemon would take it for its own.
clear_remains() {
  local pid
  if is_running "$CONTAINERD_PID" "$CLUSTER_HOME/run/docker/containerd"; then
    pid=$(<"$CONTAINERD_PID")
    kill "$pid" || true
    wait_until 60 process_is_gone "$pid"
  fi
  rm -f "$CONTAINERD_PID" "$DOCKERD_PID" "$DOCKERD_SOCKET"
}

# Where this machine may not use CAP_SYS_RESOURCE (bit 24), containers must not ask for it either.
write_daemon_configuration() {
  local bounding
  bounding=$(awk '/^CapBnd:/ { print $2 }' /proc/self/status)
  if ((16#$bounding >> 24 & 1)); then
    echo '{}'
  else
    install -m 755 "$HERE/node/runc-wrapper" "$CLUSTER_HOME/run/runc-wrapper"
    printf '{"runtimes": {"limited": {"path": "%s"}}, "default-runtime": "limited"}\n' "$CLUSTER_HOME/run/runc-wrapper"
  fi >"$CLUSTER_HOME/run/daemon.json"
}

dockerd_is_ours() {
  is_running "$DOCKERD_PID" "$DOCKERD_SOCKET"
}

# is_running PIDFILE WORD: a process id alone proves nothing, since it may have been given to another program by now;
# the WORD must be in its command line.
is_running() {
  [[ -f "$1" ]] && tr '\0' ' ' 2>/dev/null <"/proc/$(<"$1")/cmdline" | grep -qF "$2"
}

# A daemon that was killed leaves its containers running and its socket behind; started again, it takes both back.
recover_dockerd() {
  [[ -S "$DOCKERD_SOCKET" ]] || return 0
  dockerd_is_ours || start_dockerd
  wait_until 60 docker info
}

stop_dockerd() {
  dockerd_is_ours || return 0
  local pid
  pid=$(<"$DOCKERD_PID")
  kill "$pid"
  wait_until 60 process_is_gone "$pid"
  rm -f "$DOCKERD_SOCKET"
}

process_is_gone() {
  [[ ! -d "/proc/$1" ]]
}

# shellcheck shell=bash
# Shared by the cluster scripts: places, timed steps, builds that are kept, one run at a time.

set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
REPOSITORY=$(cd "$HERE/../.." && pwd)
export HERE REPOSITORY
# shellcheck source=env.sh
source "$HERE/env.sh"
# shellcheck source=versions.sh
source "$HERE/versions.sh"

# Where a step that fails is reported, however its own output is redirected.
exec 3>&2
LOG="$CLUSTER_HOME/log"
mkdir -p "$CLUSTER_HOME"/{bin,kept,log,run}

fail() {
  echo "error: $*" >&2
  exit 1
}

# step NAME COMMAND…: runs COMMAND with its output in a log, and prints one line with the seconds it took.
step() {
  local name=$1 began=$EPOCHREALTIME
  shift
  trap step_failed EXIT
  printf '%-28s' "$name"
  "$@" >"$LOG/step.log" 2>&1
  { echo "== $name" && cat "$LOG/step.log"; } >>"$LOG/cluster.log"
  trap - EXIT
  awk -v from="$began" -v to="$EPOCHREALTIME" 'BEGIN { printf "%7.1f s\n", to - from }'
}

step_failed() {
  echo "failed; the end of $LOG/step.log:"
  tail -n 40 "$LOG/step.log"
} >&3

# keep NAME COMMAND…: makes the folder kept/NAME once. COMMAND gets an empty folder as its last argument, which takes
# its final name only when COMMAND has succeeded, so that what was interrupted never counts.
keep() {
  local kept="$CLUSTER_HOME/kept/$1" unfinished
  shift
  [[ -d "$kept" ]] && return
  unfinished=$(mktemp -d "$CLUSTER_HOME/kept/unfinished.XXXXXX")
  chmod 755 "$unfinished"
  "$@" "$unfinished"
  mv -T "$unfinished" "$kept"
}

# hash_of PATH…: a short name for the content of files and folders.
hash_of() {
  find "$@" -type f -print0 | LC_ALL=C sort -z | xargs -0 cat | sha256sum | cut -c1-12
}

# require COMMAND PACKAGE: installs Debian's PACKAGE where COMMAND is missing.
require() {
  command -v "$1" >/dev/null && return
  command -v apt-get >/dev/null || fail "$1 is missing, and this is no Debian on which it could be installed"
  install_packages "$2"
}

# In runlevel 1 no package starts a daemon of its own where there is no systemd.
install_packages() {
  apt-get update
  RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

# wait_until SECONDS COMMAND…: tries COMMAND twice a second until it succeeds.
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < deadline)) || fail "not within the time given: $*"
    sleep 0.5
  done
}

# one_at_a_time: holds a lock until this script ends. Daemons are started with descriptor 9 closed.
one_at_a_time() {
  exec 9>"$CLUSTER_HOME/run/lock"
  flock --nonblock 9 && return
  echo "waiting for another run on this cluster"
  flock 9
}

"""Kills the service's process of one pod with SIGKILL, as its user, from outside its PID namespace.

Arguments: the pod's UID. Needs hostPID and the service's user, no privilege.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path


def process_of(pod_uid: str) -> int:
    """Return the process on this node that is the pod's first."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            groups = (folder / "cgroup").read_text().replace("_", "-")
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # it has ended meanwhile
        if pod_uid in groups and b"serve" in words:
            return int(folder.name)
    raise SystemExit(f"no process of pod {pod_uid} on this node")


process = process_of(sys.argv[1])
os.kill(process, signal.SIGKILL)
sys.stdout.write(json.dumps({"killed": process}) + "\n")

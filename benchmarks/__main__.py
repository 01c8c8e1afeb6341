"""Run the benchmarks: all of them, or the one that is named first, with its options."""

from __future__ import annotations

import subprocess
import sys

PROGRAMS = (
    "service", "appends", "client_appends", "search", "mixed", "recall", "replay", "sampling_report", "delta", "codes",
    "recovery", "churn",
)  # fmt: skip

NEED_A_CLUSTER = {"operator": "operator_scale"}
"""Left out where none is named: they need ``make cluster-up`` and its KUBECONFIG."""


def main() -> None:
    """Run each as a program of its own, so that none inherits the state of another."""
    named = sys.argv[1:2]
    known = {program: program for program in PROGRAMS} | NEED_A_CLUSTER
    if named and named[0] not in known:
        sys.exit(f"there is no benchmark {named[0]}; there are {', '.join(known)}")
    for program in named or PROGRAMS:
        subprocess.run([sys.executable, "-m", f"benchmarks.{known[program]}", *sys.argv[2:]], check=True)


if __name__ == "__main__":
    main()

"""Run the benchmarks: all of them, or the one that is named first, with its options."""

from __future__ import annotations

import subprocess
import sys

PROGRAMS = ("service", "appends", "delta", "recovery", "churn")


def main() -> None:
    """Run each as a program of its own, so that none inherits the state of another."""
    named = sys.argv[1:2]
    if named and named[0] not in PROGRAMS:
        sys.exit(f"there is no benchmark {named[0]}; there are {', '.join(PROGRAMS)}")
    for program in named or PROGRAMS:
        subprocess.run([sys.executable, "-m", f"benchmarks.{program}", *sys.argv[2:]], check=True)


if __name__ == "__main__":
    main()

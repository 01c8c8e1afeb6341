"""The command ``xbuf demo``: its arguments. What it needs beyond the service is imported only when it runs."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from buffer_service.contract.names import TOKEN_VARIABLE

MISSING_PART = 2


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``demo`` to the commands."""
    demo = commands.add_parser("demo", help="learn handwritten digits from experience, and check everything on the way")
    where = demo.add_mutually_exclusive_group()
    where.add_argument("--url", help="a running buffer of dimension 64 (default: start one here)")
    where.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of the buffer started here (default: temporary)"
    )
    demo.add_argument("--token", help=f"bearer token of scope write (default: the variable {TOKEN_VARIABLE})")
    demo.add_argument("--port", type=int, help="port of the buffer started here (default: 8080, or a free one)")
    demo.add_argument("--once", action="store_true", help="end after the checks instead of leaving the page up")
    demo.add_argument("--switches", type=int, default=2, metavar="N", help="index switches to wait for (default 2)")
    demo.add_argument(
        "--patience-s", type=float, default=120.0, metavar="S", help="longest wait for them at the end (default 120)"
    )
    demo.set_defaults(run=run_demo)


def run_demo(given: argparse.Namespace) -> int:
    """Run the demo; the exit code is 0 only if every check held."""
    try:
        from buffer_service.demo.run import Options, run  # noqa: PLC0415 - needs scikit-learn and rich
    except ModuleNotFoundError as error:
        sys.stderr.write(f"xbuf demo: {error.name} is missing; install experience-buffer[service,demo]\n")
        return MISSING_PART
    options = Options(
        url=given.url,
        token=given.token or os.environ.get(TOKEN_VARIABLE),
        data=given.data,
        port=given.port,
        once=given.once,
        switches=given.switches,
        patience_s=given.patience_s,
    )
    return run(options)

"""The arguments of the commands that keep a buffer; each command is imported when it runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from buffer_service.contract.names import TOKEN_VARIABLE


def add_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``backup``, ``export``, ``restore`` and ``repair``."""
    backup = commands.add_parser("backup", help="copy a running buffer, while it goes on, into one file")
    backup.add_argument("file", metavar="FILE", help="made when the copy is whole and on disk; - for standard output")
    backup.add_argument("--url", required=True, help="of the service, such as http://127.0.0.1:8080")
    backup.add_argument("--token", help=f"bearer token of scope admin (default: the variable {TOKEN_VARIABLE})")
    backup.set_defaults(run=_backup)
    _add_export(commands)
    restore = commands.add_parser("restore", help="make a new data folder from a backup")
    restore.add_argument("file", metavar="FILE", help="what backup wrote; - for standard input")
    restore.add_argument("--data", type=Path, required=True, metavar="DIR", help="empty, or made")
    restore.add_argument("--sequence", type=int, metavar="N", help="as it was then (default: as the backup found it)")
    restore.set_defaults(run=_restore)
    repair = commands.add_parser("repair", help="do what can be done to a damaged buffer without losing anything")
    repair.add_argument("folder", type=Path, help="what serve was given as --data, or a store alone")
    repair.set_defaults(run=_repair)


def _add_export(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    export = commands.add_parser("export", help="write what a buffer holds into a file for analysis")
    source = export.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, metavar="DIR", help="of a buffer that no service has open; unchanged")
    source.add_argument("--url", help="of a running service, which goes on meanwhile")
    export.add_argument("--token", help=f"bearer token of scope read (default: the variable {TOKEN_VARIABLE})")
    export.add_argument("--format", choices=("parquet", "arrow"), default="parquet", help="default: parquet")
    export.add_argument("--out", required=True, metavar="FILE", help="made when it is whole; - for standard output")
    export.set_defaults(run=_export)


def _export(given: argparse.Namespace) -> int:
    from buffer_service.commands import export  # noqa: PLC0415 - other commands start without it

    return export.run(given)


def _backup(given: argparse.Namespace) -> int:
    from buffer_service.commands import backup  # noqa: PLC0415 - other commands start without it

    return backup.run(given)


def _restore(given: argparse.Namespace) -> int:
    from buffer_service.commands import restore  # noqa: PLC0415 - other commands start without it

    return restore.run(given)


def _repair(given: argparse.Namespace) -> int:
    from buffer_service.commands import repair  # noqa: PLC0415 - other commands start without it

    return repair.run(given)

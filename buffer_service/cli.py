"""The command ``xbuf``: serve, rebuild, backup, export, restore, verify, repair, demo.

Exit codes: 0 done, 2 wrong use or settings, 65 the input cannot be used (a retry would fail again), 69 cannot start,
75 failed for now (a retry may help).
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path

from buffer_service.commands import parsers
from buffer_service.commands.exits import CANNOT_START, TRY_AGAIN, UNUSABLE_INPUT, WRONG_USE
from buffer_service.observability import logs
from buffer_service.observability.process import end_with
from buffer_service.settings import InvalidSettingsError, load_settings

log = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    given = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format=logs.FORMAT)
    for talkative in ("uvicorn.error", "faiss.loader", "httpx"):
        logging.getLogger(talkative).setLevel(logging.WARNING)
    run: Callable[[argparse.Namespace], int] = given.run
    try:
        return run(given)
    except InvalidSettingsError as error:
        sys.stderr.write(f"xbuf: {error}\n")
        return WRONG_USE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="xbuf", description=__doc__.splitlines()[0] if __doc__ else None)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_serve(commands)
    _add_rebuild(commands)
    _add_verify(commands)
    parsers.add_parsers(commands)
    from buffer_service.demo.command import add_parser  # noqa: PLC0415 - the service's image has no need of it

    add_parser(commands)
    return parser


def _add_serve(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    serve = commands.add_parser("serve", help="run the buffer service on a folder")
    serve.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of the buffer; made if missing")
    serve.add_argument("--host", help="address to listen on (default 127.0.0.1; others need tokens)")
    serve.add_argument("--port", type=int, help="port to listen on (default 8080; 0 takes a free one)")
    serve.add_argument("--config", type=Path, metavar="FILE", help="settings in YAML")
    serve.set_defaults(run=_serve)


def _add_rebuild(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    rebuild = commands.add_parser("rebuild", help="build an index generation from an export and point to it")
    rebuild.add_argument("--export", type=Path, required=True, metavar="DIR")
    rebuild.add_argument("--indexes", type=Path, required=True, metavar="DIR")
    rebuild.add_argument("--generation", type=int, required=True, metavar="N")
    pointer = rebuild.add_mutually_exclusive_group(required=True)
    pointer.add_argument("--pointer-dir", type=Path, metavar="DIR", help="folder of a local pointer")
    pointer.add_argument("--pointer-configmap", metavar="NAME", help="ConfigMap of a pointer in a cluster")
    rebuild.add_argument("--namespace", default="default", help="of the ConfigMap")
    rebuild.add_argument("--type", choices=("auto", "flat", "ivf", "hnsw"), help="default: setting index.type")
    rebuild.add_argument(
        "--storage", choices=("auto", "fp32", "fp16", "sq8", "pq4"), help="default: setting index.storage"
    )
    rebuild.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="where it will be searched")
    rebuild.add_argument(
        "--build-on", choices=("cpu", "gpu"), default="cpu", help="a GPU that fails leaves it to the CPU"
    )
    rebuild.add_argument("--n-probes", type=int, help="default: setting index.faiss_n_probes")
    rebuild.add_argument("--recall-floor", type=float, help="default: setting index.recall_floor")
    rebuild.add_argument("--threads", type=int, help="default: setting rebuild.threads")
    rebuild.add_argument("--keep", type=int, help="default: setting index.keep_generations")
    rebuild.add_argument(
        "--revision", type=int, metavar="N", help="of the pointer; if it was moved back since, it stays"
    )
    rebuild.add_argument("--end-with", type=int, metavar="PID", help="end when this process ends")
    rebuild.set_defaults(run=_rebuild)


def _add_verify(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    verify = commands.add_parser("verify", help="check a buffer's folder, or a backup, without changing it")
    verify.add_argument("folder", type=Path, help="what serve was given as --data, or a store alone, or a backup")
    verify.set_defaults(run=_verify)


def _verify(given: argparse.Namespace) -> int:
    from buffer_service.core.restoring import verify_backup  # noqa: PLC0415 - other commands start without it
    from buffer_service.core.verification import verify  # noqa: PLC0415
    from buffer_service.errors import FatalError  # noqa: PLC0415

    try:
        problems = verify_backup(given.folder) if given.folder.is_file() else verify(given.folder)
    except FatalError as error:
        sys.stderr.write(f"xbuf verify: {error}\n")
        return CANNOT_START
    for problem in problems:
        sys.stdout.write(f"{problem}\n")
    sys.stdout.write(f"{given.folder}: {'sound' if not problems else f'{len(problems)} problems'}\n")
    return UNUSABLE_INPUT if problems else 0


def _serve(given: argparse.Namespace) -> int:
    from buffer_service.api.server import serve  # noqa: PLC0415 - other commands start without it
    from buffer_service.errors import FatalError  # noqa: PLC0415

    settings = load_settings(given.config).at(given.host, given.port)
    try:
        with logs.in_background():
            serve(given.data, settings)
    except (FatalError, OSError) as error:
        sys.stderr.write(f"xbuf: {error}\n")
        return CANNOT_START
    return 0


def _rebuild(given: argparse.Namespace) -> int:
    from buffer_service.index.errors import IndexFailure, UnusableExportError  # noqa: PLC0415
    from buffer_service.index.pointer_store import FolderPointer, PointerStore  # noqa: PLC0415
    from buffer_service.index.rebuild import RebuildRequest, rebuild  # noqa: PLC0415

    if given.end_with is not None:
        end_with(given.end_with)
    settings, threads = load_settings().index, load_settings().rebuild.threads
    pointer: PointerStore
    if given.pointer_configmap:
        from buffer_service.index.pointer_config_map import ConfigMapPointer  # noqa: PLC0415 - needs kubernetes

        pointer = ConfigMapPointer(given.pointer_configmap, given.namespace)
    else:
        pointer = FolderPointer(given.pointer_dir)
    request = RebuildRequest(
        export=given.export,
        indexes=given.indexes,
        generation=given.generation,
        index_type=given.type or settings.type,
        storage=given.storage or settings.storage,
        device=given.device,
        build_on=given.build_on,
        revision=given.revision,
        n_probes=given.n_probes or settings.faiss_n_probes,
        recall_floor=settings.recall_floor if given.recall_floor is None else given.recall_floor,
        keep=given.keep or settings.keep_generations,
        threads=given.threads or threads,
    )
    try:
        rebuild(request, pointer)
    except UnusableExportError as error:
        sys.stderr.write(f"xbuf rebuild: {error}\n")
        return UNUSABLE_INPUT
    except (IndexFailure, OSError) as error:
        sys.stderr.write(f"xbuf rebuild: {error}\n")
        return TRY_AGAIN
    return 0


if __name__ == "__main__":
    sys.exit(main())

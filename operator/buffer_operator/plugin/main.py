"""The command line of ``kubectl xbuf``.

Exit status 0: done; 1: it cannot be done (unknown buffer, no cluster, no right, refused); 2: wrong usage or a file that
cannot be used.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from buffer_operator.plugin import requests
from buffer_operator.plugin.kubectl import UNUSABLE, Kubectl, PluginError, connection_flags
from buffer_operator.plugin.report import report, summary

_REBUILD_WAIT_S = 3600.0
_ROLLBACK_WAIT_S = 120.0
_CONNECTION = ("kubeconfig", "context", "cluster", "user", "as")
_DESCRIPTION = "Looks after experience buffers: what they do, why, and what a change would do."
_EPILOGUE = """examples:
  kubectl xbuf status demo
  kubectl xbuf plan -f demo.yaml
  kubectl xbuf rebuild demo --wait
  kubectl xbuf rollback demo --to 4
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    given = build_parser().parse_args(arguments)
    connection = connection_flags([(name, getattr(given, name, None)) for name in _CONNECTION])
    kubectl = Kubectl(connection, getattr(given, "namespace", ""))
    try:
        given.run(kubectl, given)
    except PluginError as error:
        sys.stderr.write(f"kubectl xbuf: {error}\n")
        return error.code
    except KeyboardInterrupt:
        return 130
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; connection flags may stand before or after the command."""
    flags = _connection_parser()
    parser = argparse.ArgumentParser(
        prog="kubectl xbuf",
        description=_DESCRIPTION,
        epilog=_EPILOGUE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[flags],
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, text: str, *, named: bool = True) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=f"{text[:1].upper()}{text[1:]}.", parents=[flags])
        if named:
            added.add_argument("name", metavar="NAME", help="name of the buffer")
        return added

    status = command("status", "show what a buffer does: conditions, index, rebuilds, volumes, restarts")
    _add_output(status)
    status.set_defaults(run=_status)
    plan = command("plan", "show what applying a file would do and restart, without doing it", named=False)
    plan.add_argument("-f", "--filename", metavar="FILE", required=True, help="manifest to apply, - for standard input")
    _add_output(plan)
    plan.set_defaults(run=_plan)
    rebuild = command("rebuild", "have the index built anew now, whatever the triggers say")
    _add_wait(rebuild, "wait until the new generation is served", _REBUILD_WAIT_S)
    rebuild.set_defaults(run=_rebuild)
    rollback = command("rollback", "go back to an earlier generation of the index; a rebuild leads forward again")
    rollback.add_argument("--to", type=int, metavar="GENERATION", help="default: the newest that is earlier")
    rollback.add_argument("--no-wait", dest="wait", action="store_false", help="return as soon as it is asked for")
    _add_timeout(rollback, _ROLLBACK_WAIT_S)
    rollback.set_defaults(run=_rollback)
    _add_switches(command)
    return parser


def _add_switches(command: _Command) -> None:
    command("suspend", "take the pod away and keep the volume; no GPU is paid for").set_defaults(run=_suspend)
    command("resume", "bring the pod of a suspended buffer back").set_defaults(run=_resume)
    pause = command("pause", "have the operator apply nothing until unpause")
    pause.add_argument(
        "--reason", default="kubectl xbuf pause", metavar="TEXT", help="who and why; the status tells it"
    )
    pause.set_defaults(run=_pause)
    command("unpause", "have the operator apply what the spec asks for again").set_defaults(run=_unpause)


def _connection_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    group = parser.add_argument_group("connection, as for kubectl")
    group.add_argument("-n", "--namespace", metavar="NAMESPACE", help="default: that of the kubeconfig's context")
    group.add_argument("--context", metavar="NAME", help="context of the kubeconfig")
    group.add_argument("--kubeconfig", metavar="FILE", help="default: KUBECONFIG, else ~/.kube/config")
    group.add_argument("--cluster", metavar="NAME", help="cluster of the kubeconfig")
    group.add_argument("--user", metavar="NAME", help="user of the kubeconfig")
    group.add_argument("--as", metavar="USER", help="user to impersonate")
    return parser


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="default: text")


def _add_wait(parser: argparse.ArgumentParser, text: str, seconds: float) -> None:
    parser.add_argument("--wait", action="store_true", help=text)
    _add_timeout(parser, seconds)


def _add_timeout(parser: argparse.ArgumentParser, seconds: float) -> None:
    parser.add_argument(
        "--timeout", type=float, default=seconds, metavar="SECONDS", help=f"longest wait (default {seconds:.0f})"
    )


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _status(kubectl: Kubectl, given: argparse.Namespace) -> None:
    resource = kubectl.buffer(given.name)
    if given.output == "json":
        _say(json.dumps(summary(resource), indent=2))
    else:
        sys.stdout.write(report(resource, time.time()))


def _plan(kubectl: Kubectl, given: argparse.Namespace) -> None:
    from buffer_operator.plugin.preview import previews  # noqa: PLC0415 - the other commands start without the planner
    from buffer_operator.plugin.preview_text import preview_text  # noqa: PLC0415

    text = sys.stdin.read() if given.filename == "-" else None
    if text is None and not Path(given.filename).exists():
        raise PluginError(f"There is no file {given.filename}.", UNUSABLE)
    found = previews(kubectl, given.filename, text)
    if given.output == "json":
        _say(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        sys.stdout.write("\n".join(preview_text(one) for one in found))


def _rebuild(kubectl: Kubectl, given: argparse.Namespace) -> None:
    requests.rebuild(kubectl, given.name, _say, given.timeout if given.wait else None)


def _rollback(kubectl: Kubectl, given: argparse.Namespace) -> None:
    requests.rollback(kubectl, given.name, _say, given.to, given.timeout if given.wait else None)


def _suspend(kubectl: Kubectl, given: argparse.Namespace) -> None:
    requests.suspend(kubectl, given.name, _say)


def _resume(kubectl: Kubectl, given: argparse.Namespace) -> None:
    requests.resume(kubectl, given.name, _say)


def _pause(kubectl: Kubectl, given: argparse.Namespace) -> None:
    requests.pause(kubectl, given.name, _say, given.reason)


def _unpause(kubectl: Kubectl, given: argparse.Namespace) -> None:
    requests.unpause(kubectl, given.name, _say)


class _Command(Protocol):
    """Adds the parser of a command."""

    def __call__(self, name: str, text: str, *, named: bool = True) -> argparse.ArgumentParser:
        """Return it."""


if __name__ == "__main__":
    sys.exit(main())

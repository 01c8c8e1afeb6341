"""kubectl as the plugin uses it, and its errors as one sentence each."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from buffer_operator.kube.kinds import Json
from buffer_service.contract import names

RESOURCE: Final = f"{names.PLURAL}.{names.API_GROUP}"
MANAGER: Final = "kubectl-xbuf"
"""Field manager of every change: it tells in ``metadata.managedFields`` and in audit logs who asked."""
FAILED: Final = 1
UNUSABLE: Final = 2

_TIMEOUT_S: Final = 60
_NO_CLUSTER: Final = re.compile(
    r"connection to the server .* was refused|Unable to connect to the server|no such host|i/o timeout|"
    r"ServiceUnavailable|couldn't get current server API group list|context deadline exceeded",
)
_FORBIDDEN: Final = re.compile(r'User "([^"]*)" cannot (\w+) resource "([^"]*)"')
_PREFIX: Final = re.compile(r'^(error: |Error from server(?: \(\w+\))?(?: for: "[^"]*")?: )+')
_WHOLE_OBJECT: Final = re.compile(r'patch: Invalid value: "(?:[^"\\]|\\.)*": ')
"""The API server repeats all that it was sent before it says what is wrong with it."""


class PluginError(Exception):
    """What was asked for cannot be done; ``str(error)`` is a sentence, ``code`` the exit status."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


class AbsentError(PluginError):
    """There is no object of that name."""


@dataclass(frozen=True)
class Kubectl:
    """kubectl with the connection flags that the plugin was given."""

    connection: tuple[str, ...] = ()
    namespace: str = ""
    """Empty for that of the kubeconfig's context."""

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl and return its standard output; raises PluginError."""
        scope = ("--namespace", self.namespace) if self.namespace else ()
        command = ["kubectl", *self.connection, *scope, *arguments]
        try:
            done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        except FileNotFoundError:
            raise PluginError("kubectl is not on the PATH: the plugin talks to the cluster through it.") from None
        except subprocess.TimeoutExpired:
            raise PluginError(f"The cluster did not answer within {_TIMEOUT_S} s.") from None
        if done.returncode:
            raise problem(done.stderr or done.stdout)
        return done.stdout

    def buffer(self, name: str) -> Json:
        """Return a buffer; raises AbsentError where there is none of that name."""
        try:
            found: Json = json.loads(self("get", RESOURCE, name, "--output", "json"))
        except AbsentError:
            where = f" in namespace {self.namespace}" if self.namespace else ""
            raise AbsentError(f"There is no ExperienceBuffer {name}{where}.") from None
        return found

    def objects(self, *arguments: str) -> list[Json]:
        """Return the objects that a ``get`` finds; those that are not there are left out."""
        text = self("get", *arguments, "--ignore-not-found", "--output", "json")
        if not text.strip():
            return []
        found: Json = json.loads(text)
        items: list[Json] = found["items"] if found.get("kind") == "List" else [found]
        return items

    def change(self, name: str, patch: Json) -> None:
        """Merge a patch into a buffer; raises AbsentError where there is none of that name."""
        body = json.dumps(patch)
        self("patch", RESOURCE, name, "--type", "merge", "--field-manager", MANAGER, "--patch", body)


def problem(said: str) -> PluginError:
    """Return what kubectl said as one sentence."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = lines[-1] if lines else "kubectl failed and did not say why"
    if _NO_CLUSTER.search(said):
        return PluginError(f"The cluster cannot be reached: {_sentence(last)}")
    forbidden = _FORBIDDEN.search(said)
    if forbidden:
        user, verb, resource = forbidden.groups()
        return PluginError(f"You ({user}) have no right to {verb} {resource} here: ask for a Role that grants it.")
    if "(NotFound)" in said:
        return AbsentError(_sentence(last))
    if "doesn't have a resource type" in said or "no matches for kind" in said:
        return PluginError(f"This cluster knows no {names.KIND}: install the operator's chart first.")
    return PluginError(_sentence(last))


def _sentence(line: str) -> str:
    text = _WHOLE_OBJECT.sub("", _PREFIX.sub("", line)).rstrip(".?! ")
    return f"{text[:1].upper()}{text[1:]}."


def connection_flags(values: Sequence[tuple[str, str | None]]) -> tuple[str, ...]:
    """Return the flags to hand on to kubectl, those without a value left out."""
    return tuple(word for name, value in values if value is not None for word in (f"--{name}", value))

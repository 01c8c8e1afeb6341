"""kubectl as the tests use it: one subprocess for each call, JSON in and out.

The cluster is the one that the environment's KUBECONFIG names; ``conftest`` sets it.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from tests.helpers.waiting import wait_until

Json = dict[str, Any]
T = TypeVar("T")

_CALL_TIMEOUT_S = 100.0
_POLL_INTERVAL_S = 0.25


class CommandError(AssertionError):
    """A command failed; the message is what it wrote to standard error."""


def command(*arguments: str, stdin: str | None = None) -> str:
    """Run a program and return its standard output; raises CommandError."""
    done = subprocess.run(arguments, input=stdin, capture_output=True, text=True, timeout=_CALL_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise CommandError(f"{' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def eventually(probe: Callable[[], T | None], what: str, timeout_s: float) -> T:
    """Poll the cluster until the probe returns something true, and return that; fails after ``timeout_s``."""
    found = wait_until(probe, what, timeout_s, _POLL_INTERVAL_S)
    assert found is not None
    return found


class Kubectl:
    """kubectl in one namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl; raises CommandError."""
        return command("kubectl", "--namespace", self.namespace, *arguments, stdin=stdin)

    def get(self, kind: str, name: str) -> Json | None:
        """Return one object, None where there is none of that name."""
        text = self("get", kind, name, "--output", "json", "--ignore-not-found")
        return json.loads(text) if text else None

    def existing(self, kind: str, name: str) -> Json:
        """Return one object that has to be there."""
        found = self.get(kind, name)
        assert found is not None, f"{kind} {name} is not in {self.namespace}"
        return found

    def list(self, kinds: str, selector: str = "") -> Sequence[Json]:
        """Return all objects of these kinds, separated by commas, with these labels."""
        items: list[Json] = json.loads(self("get", kinds, "--selector", selector, "--output", "json"))["items"]
        return items

    def apply(self, *manifests: Json) -> None:
        """Apply manifests as ``kubectl apply`` does."""
        self("apply", "--filename", "-", stdin="\n---\n".join(json.dumps(one) for one in manifests))


def condition_of(resource: Json, kind: str) -> Json:
    """Return the condition of that type, empty where there is none."""
    conditions: list[Json] = resource.get("status", {}).get("conditions", [])
    return next((entry for entry in conditions if entry["type"] == kind), {})

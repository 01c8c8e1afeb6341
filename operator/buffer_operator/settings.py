"""The operator's own settings: defaults here, then the environment (``XBUF_OPERATOR_<NAME>``), then flags (``--name``).

A name that is not known is an error that names the nearest known one.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Mapping, Sequence
from typing import Annotated, Final

import msgspec

_PREFIX: Final = "XBUF_OPERATOR_"
IMAGE_VARIABLE: Final = "XBUF_IMAGE"
"""Variable of the image, without the prefix: it is the product's, the operator runs from it too."""

Seconds = Annotated[float, msgspec.Meta(gt=0)]


class InvalidSettingsError(ValueError):
    """A setting is unknown, missing or out of range; the message says which."""


class OperatorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one operator process."""

    image: Annotated[str, msgspec.Meta(min_length=1)]
    """Image of new buffers whose spec names none."""
    namespaces: str = ""
    """Namespaces to watch, separated by commas; empty watches the whole cluster."""
    workers: Annotated[int, msgspec.Meta(ge=1, le=256)] = 8
    """Buffers that are reconciled at the same time."""
    rebuilds_max: Annotated[int, msgspec.Meta(ge=1)] = 10
    """Rebuild Jobs at the same time over all buffers that are watched; who has waited longest is next."""
    poll_s: Seconds = 3.0
    """Time between two looks at a buffer in which something changes."""
    poll_max_s: Seconds = 15.0
    """Longest time between two looks at a buffer in which nothing does."""
    resync_s: Seconds = 300.0
    """Time between two visits of every buffer that read it from the API server, whatever the watches say."""
    watch_silence_s: Seconds = 70.0
    """A watch that has said nothing for so long is dead; API servers send a bookmark each minute."""
    resync_age_max_s: Seconds = 900.0
    """``/livez`` fails when the last good resync is older."""
    reconcile_timeout_s: Seconds = 180.0
    """Longest visit of one buffer, an export included."""
    backoff_first_s: Seconds = 1.0
    """Pause after the first failure; doubled with each further one."""
    backoff_max_s: Seconds = 60.0
    """Longest pause after failures."""
    lease_namespace: str = ""
    """Namespace of the Lease by which one of several operators is chosen to act; empty: this is the only one."""
    lease_name: Annotated[str, msgspec.Meta(min_length=1)] = "experience-buffer-operator"
    """Name of that Lease."""
    lease_duration_s: Annotated[float, msgspec.Meta(ge=1)] = 15.0
    """Another operator acts where the Lease was not renewed for so long; the one that acts stops at two thirds."""
    host: str = "0.0.0.0"  # noqa: S104 - probes come from the kubelet
    """Address of probes and metrics."""
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8081
    """Port of probes and metrics."""
    log_level: str = "info"

    @property
    def watched(self) -> tuple[str | None, ...]:
        """The scopes to list and watch: each namespace, or None for the whole cluster."""
        return tuple(name.strip() for name in self.namespaces.split(",") if name.strip()) or (None,)


def load_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> OperatorSettings:
    """Return the settings; raises InvalidSettingsError. ``--help`` and unknown flags exit as argparse does."""
    names = OperatorSettings.__struct_fields__
    given = _from_environment(environment, names)
    parser = argparse.ArgumentParser(prog="buffer_operator", description="Reconciles ExperienceBuffer resources.")
    for name in names:
        parser.add_argument(f"--{name.replace('_', '-')}", metavar="VALUE", default=argparse.SUPPRESS)
    given |= vars(parser.parse_args(arguments))
    if not given.get("image"):
        raise InvalidSettingsError(f"the image of the buffers is not set: give {IMAGE_VARIABLE} or --image")
    try:
        return msgspec.convert(given, OperatorSettings, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidSettingsError(str(error)) from error


def _from_environment(environment: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    known = {(IMAGE_VARIABLE if name == "image" else f"{_PREFIX}{name}".upper()): name for name in names}
    for variable in environment:
        if variable.startswith(_PREFIX) and variable not in known:
            nearest = difflib.get_close_matches(variable, known, n=1, cutoff=0.0)[0]
            raise InvalidSettingsError(f"unknown setting {variable}; did you mean {nearest}?")
    return {name: environment[variable] for variable, name in known.items() if variable in environment}

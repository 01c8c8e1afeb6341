"""``xbuf export``: a buffer's content in a file for analysis, from its folder or from a running service."""

from __future__ import annotations

import argparse
import os
import sys
from http import HTTPStatus

import httpx

from buffer_service.commands.exits import TRY_AGAIN, WRONG_USE, failed
from buffer_service.commands.output import target
from buffer_service.contract import names
from buffer_service.errors import ExperienceBufferError

_TIMEOUT_S = 60.0
"""Longest time without a byte."""


def run(given: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    try:
        return _of_service(given) if given.url else _of_folder(given)
    except ExperienceBufferError as error:
        return failed("export", error)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        sys.stderr.write(f"xbuf export: {type(error).__name__}: {error}\n")
        return TRY_AGAIN


def _of_folder(given: argparse.Namespace) -> int:
    from buffer_service.core.tabular import require_pyarrow, written  # noqa: PLC0415 - not needed for a service's
    from buffer_service.storage.moments import moment_in  # noqa: PLC0415

    require_pyarrow()
    store = given.data / names.STORE_FOLDER
    with moment_in(store if store.is_dir() else given.data) as moment, target(given.out) as file:
        for part in written(moment, given.format):
            file.write(part)
    return _done(given.out, moment.image.header.sequence)


def _of_service(given: argparse.Namespace) -> int:
    token = given.token or os.environ.get(names.TOKEN_VARIABLE)
    headers = {"authorization": f"Bearer {token}"} if token else {}
    url = f"{given.url.rstrip('/')}/v1/export"
    with (
        httpx.Client(timeout=_TIMEOUT_S) as client,
        client.stream("GET", url, params={"format": given.format}, headers=headers) as answer,
    ):
        if answer.is_error:
            answer.read()
            sys.stderr.write(f"xbuf export: {given.url} answers {answer.status_code}: {answer.text}\n")
            return WRONG_USE if _is_final(answer.status_code) else TRY_AGAIN
        with target(given.out) as file:
            for part in answer.iter_raw():
                file.write(part)
        return _done(given.out, int(answer.headers["x-sequence"]))


def _is_final(status: int) -> bool:
    return status < HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.NOT_IMPLEMENTED


def _done(name: str, sequence: int) -> int:
    sys.stderr.write(f"{name}: sequence {sequence}\n")
    return 0

"""``xbuf backup``: fetches a backup from a running service, verifying it as it comes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from io import RawIOBase
from typing import BinaryIO, cast

import httpx

from buffer_service.commands.exits import TRY_AGAIN, UNUSABLE_INPUT, WRONG_USE
from buffer_service.commands.output import target
from buffer_service.contract.names import TOKEN_VARIABLE
from buffer_service.errors import UnusableBackupError
from buffer_service.storage.backup import BackupManifest, read_backup

_TIMEOUT_S = 60.0
"""Longest time without a byte."""


def run(given: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    token = given.token or os.environ.get(TOKEN_VARIABLE)
    try:
        with _fetched(given.url, token) as answer:
            if answer.is_error:
                answer.read()
                sys.stderr.write(f"xbuf backup: {given.url} answers {answer.status_code}: {answer.text}\n")
                return TRY_AGAIN if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR else WRONG_USE
            with target(given.file) as file:
                manifest = _copy(answer, file)
    except UnusableBackupError as error:
        sys.stderr.write(f"xbuf backup: {error}\n")
        return UNUSABLE_INPUT
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        sys.stderr.write(f"xbuf backup: {type(error).__name__}: {error}\n")
        return TRY_AGAIN
    sys.stderr.write(f"{given.file}: sequence {manifest.sequence}, {manifest.count} experiences\n")
    return 0


@contextmanager
def _fetched(url: str, token: str | None) -> Iterator[httpx.Response]:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    with (
        httpx.Client(timeout=_TIMEOUT_S) as client,
        client.stream("POST", f"{url.rstrip('/')}/v1/admin/backup", headers=headers) as answer,
    ):
        yield answer


def _copy(answer: httpx.Response, target: BinaryIO) -> BackupManifest:
    source = _Tee(answer.iter_raw(), target)
    # tarfile asks for no more of a stream than read().
    manifest = read_backup(cast(BinaryIO, source))
    while source.read(1 << 20):
        """What pads the archive is copied too."""
    return manifest


class _Tee(RawIOBase):
    """A stream that is written to the target as it is read."""

    def __init__(self, parts: Iterator[bytes], target: BinaryIO) -> None:
        self._parts = parts
        self._target = target
        self._left = b""

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes, none at the end."""
        while not self._left:
            part = next(self._parts, None)
            if part is None:
                return b""
            self._target.write(part)
            self._left = part
        end = len(self._left) if size < 0 else size
        data, self._left = self._left[:end], self._left[end:]
        return data

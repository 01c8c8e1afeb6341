"""Starting the service the wrong way: a sentence that says what to do, and the right exit code."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.running import running_service

_REBUILD = ["--indexes", "{data}", "--generation", "1", "--pointer-dir", "{data}"]


def _xbuf(*arguments: str, **environment: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "buffer_service.cli", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "sentence"),
    [
        ([], {}, 2, "required: COMMAND"),
        (["serve"], {}, 2, "required: --data"),
        (["serve", "--data", "{data}", "--port", "99999"], {}, 2, "server.port"),
        (["serve", "--data", "{data}"], {"XBUF_BUFFER__CAPACTIY": "1"}, 2, "did you mean XBUF_BUFFER__CAPACITY"),
        (["serve", "--data", "{data}"], {"XBUF_BUFFER__CAPACITY": "many"}, 2, "buffer.capacity"),
        (["serve", "--data", "{data}", "--host", "0.0.0.0"], {}, 2, "tokens_dir"),  # noqa: S104 - refused
        (["serve", "--data", "{data}", "--config", "{data}.yaml"], {}, 2, "cannot be read"),
        (["serve", "--data", "/proc/nothing"], {}, 69, "/proc/nothing"),
        (["rebuild", "--export", "{data}", *_REBUILD], {}, 65, "export"),
    ],
    ids=["no command", "no folder", "port", "unknown", "no number", "open door", "no file", "no place", "no export"],
)  # fmt: skip
def test_wrong_use_is_told_in_a_sentence(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], code: int, sentence: str
) -> None:
    """No traceback, the right exit code, and what is wrong."""
    given = [argument.replace("{data}", str(tmp_path / "data")) for argument in arguments]

    found, errors = _xbuf(*given, **environment)

    assert found == code
    assert sentence in errors
    assert "Traceback" not in errors


def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    """The sentence names address and port."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        code, errors = _xbuf("serve", "--data", str(tmp_path / "data"), "--port", str(port))

    assert (code, f"port {port}" in errors) == (69, True)


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"XBUF_EMBEDDING__DIMENSION": "4"}, "dimension 8"),
        ({"XBUF_EMBEDDING__DIMENSION": "8", "XBUF_EMBEDDING__METRIC": "euclidean"}, "metric cosine"),
        ({"XBUF_EMBEDDING__DIMENSION": "8", "XBUF_PERSISTENCE__BACKEND": "lmdb"}, "file backend"),
    ],
)
def test_a_store_of_another_kind_is_refused(tmp_path: Path, environment: dict[str, str], sentence: str) -> None:
    """Dimension, metric and backend are fixed for the life of a store; the sentence says what it was made for."""
    with running_service(tmp_path / "data"):
        pass

    code, errors = _xbuf("serve", "--data", str(tmp_path / "data"), "--port", "0", **environment)

    assert (code, sentence in errors) == (69, True)

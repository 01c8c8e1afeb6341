"""Who may call: scopes, rotation, and no open door by mistake."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.helpers.waiting import wait_until
from tests.integration.running import running_service

SEARCH = {"vector": [1.0] * 8}
APPEND = {"experiences": [{"visual": [1.0] * 8, "confidence": 0.5}]}


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """A folder with one token for each scope."""
    folder = tmp_path / "tokens"
    folder.mkdir()
    for scope in ("read", "write", "admin"):
        (folder / scope).write_text(f"{scope}-token\n")
    return folder


def _statuses(url: str, token: str | None) -> tuple[int, int, int]:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    with httpx.Client(base_url=url, headers=headers) as http:
        return (
            http.post("/v1/search", json=SEARCH).status_code,
            http.post("/v1/experiences", json=APPEND).status_code,
            http.post("/v1/admin/export").status_code,
        )


def test_each_scope_includes_the_one_before(tmp_path: Path, tokens: Path) -> None:
    """Read < write < admin; without a token, or with a wrong one, nothing under /v1."""
    with running_service(tmp_path / "data", auth__tokens_dir=tokens) as service:
        assert _statuses(service.url, None) == (401, 401, 401)
        assert _statuses(service.url, "guess") == (401, 401, 401)
        assert _statuses(service.url, "read-token") == (200, 403, 403)
        assert _statuses(service.url, "write-token") == (200, 201, 403)
        assert _statuses(service.url, "admin-token") == (200, 201, 200)
        assert httpx.get(f"{service.url}/readyz").status_code == 200


def test_a_rotated_token_is_taken_up_without_a_restart(tmp_path: Path, tokens: Path) -> None:
    """The old one stops to work."""
    with running_service(tmp_path / "data", auth__tokens_dir=tokens) as service:
        assert _statuses(service.url, "read-token")[0] == 200
        (tokens / "read").write_text("fresh-token")

        wait_until(lambda: _statuses(service.url, "fresh-token")[0] == 200, "the fresh token works")

        assert _statuses(service.url, "read-token")[0] == 401


def test_listening_beyond_loopback_needs_tokens(tmp_path: Path) -> None:
    """An open server by mistake does not start, and says what to set."""
    with (
        pytest.raises(AssertionError, match="tokens_dir"),
        running_service(tmp_path / "data", server__host="0.0.0.0"),  # noqa: S104 - refused
    ):
        pass

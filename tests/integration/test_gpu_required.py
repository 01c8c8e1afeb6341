"""Readiness where a GPU is a must."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from buffer_service.index.gpu import gpu_obstacle
from tests.integration.running import running_service

pytestmark = pytest.mark.skipif(gpu_obstacle() is None, reason="this machine has a GPU that FAISS can use")


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        ({"index__gpu_required": True, "index__faiss_backend": "gpu"}, 503),
        ({"index__gpu_required": True, "index__faiss_backend": "auto"}, 503),
        ({"index__gpu_required": True, "index__faiss_backend": "cpu"}, 200),
        ({"index__faiss_backend": "gpu"}, 200),
    ],
)
def test_a_service_that_needs_a_gpu_is_not_ready_on_the_cpu(
    tmp_path: Path, settings: dict[str, object], status: int
) -> None:
    """It lives and has started all the same, and says why it is not ready."""
    with running_service(tmp_path / "data", **settings) as service:
        ready = httpx.get(f"{service.url}/readyz")
        assert ready.status_code == status
        assert status == 200 or ready.text.startswith("no GPU: ")
        assert httpx.get(f"{service.url}/livez").status_code == 200
        assert httpx.get(f"{service.url}/startupz").status_code == 200

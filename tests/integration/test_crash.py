"""kill -9 of a real service: everything that was acknowledged is back, and is found."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from buffer_client import BufferClient, ClientError, Experience
from tests.helpers.vectors import unit_vectors
from tests.helpers.waiting import wait_until
from tests.integration.running import running_service

VECTORS = unit_vectors(4000, 8)


class _Appender(threading.Thread):
    """Appends until the service is gone; keeps what was acknowledged."""

    def __init__(self, url: str, first: int) -> None:
        super().__init__()
        self._url = url
        self._next = first
        self.acknowledged: dict[int, int] = {}

    def run(self) -> None:
        with BufferClient(self._url, retries=0) as client:
            while True:
                rows = range(self._next, self._next + 5)
                experiences = [
                    Experience(visual=VECTORS[row % len(VECTORS)], confidence=0.5, metadata={"row": row})
                    for row in rows
                ]
                try:
                    ids = client.append(experiences).ids
                except ClientError:
                    return
                self.acknowledged.update(zip(ids, rows, strict=True))
                self._next += 5


@pytest.mark.parametrize("backend", ["file", "lmdb"])
def test_acknowledged_experiences_survive_kill_9(tmp_path: Path, backend: str) -> None:
    """Four rounds of writing, rebuilding and killing; nothing acknowledged is lost, changed or hidden."""
    known: dict[int, int] = {}
    settings = {"persistence__backend": backend, "rebuild__every_operations": 100}
    for round_number in range(4):
        with running_service(tmp_path / "data", **settings) as service:
            appenders = [_Appender(service.url, 100_000 * (10 * round_number + place)) for place in range(2)]
            for appender in appenders:
                appender.start()
            wait_until(lambda: all(len(item.acknowledged) > 150 for item in appenders), "150 acknowledged each")  # noqa: B023
            service.kill()
            for appender in appenders:
                appender.join()
                known.update(appender.acknowledged)

    with running_service(tmp_path / "data", **settings) as service, BufferClient(service.url) as client:
        found = {item.id: item for item in client.experiences()}
        assert set(known) <= set(found)
        assert {experience: found[experience].metadata["row"] for experience in known} == known  # type: ignore[index]
        some = sorted(known)[:: max(1, len(known) // 200)]
        nearest = client.search(vectors=np.stack([VECTORS[known[item] % len(VECTORS)] for item in some]), k=1)
        np.testing.assert_allclose(nearest.scores[:, 0], 1.0, atol=1e-5)


def test_a_second_service_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    """The message names the process that has it, and the first goes on."""
    with (
        running_service(tmp_path / "data") as first,
        pytest.raises(AssertionError, match=str(first.process.pid)),
        running_service(tmp_path / "data"),
    ):
        pass

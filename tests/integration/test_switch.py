"""The index is rebuilt and swapped under a continuous load: no failed answer, no wrong answer."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from buffer_client import BufferClient, Experience
from tests.helpers.vectors import unit_vectors
from tests.helpers.waiting import wait_until
from tests.integration.running import running_service


class _Searcher(threading.Thread):
    """Searches all the time for what is known to be there; notes each answer that is not right."""

    def __init__(self, url: str, known: dict[int, int], vectors: np.ndarray) -> None:  # type: ignore[type-arg]
        super().__init__(daemon=True)
        self._url, self._known, self._vectors = url, known, vectors
        self.stopped = threading.Event()
        self.searches = 0
        self.generations: set[int] = set()
        self.wrong: list[str] = []

    def run(self) -> None:
        random = np.random.default_rng(0)
        with BufferClient(self._url, retries=0) as client:
            while not self.stopped.is_set():
                experience = int(random.choice(list(self._known)[-5000:]))
                try:
                    found = client.search(vectors=self._vectors[self._known[experience]][None, :], k=3)
                except Exception as error:  # noqa: BLE001 - every failure counts
                    self.wrong.append(repr(error))
                    continue
                self.searches += 1
                self.generations.add(found.generation)
                if int(found.ids[0, 0]) != experience:
                    self.wrong.append(f"{experience} not found at generation {found.generation}: {found.ids.tolist()}")


@pytest.mark.parametrize("index_type", ["flat", "ivf"])
def test_searches_go_on_through_rebuilds_and_switches(tmp_path: Path, index_type: str) -> None:
    """At least four generations are swapped in while every search is answered rightly."""
    vectors = unit_vectors(60_000, 8)
    settings = {"rebuild__every_operations": 300, "index__type": index_type, "rebuild__min_interval_s": 0}
    with running_service(tmp_path / "data", **settings) as service, BufferClient(service.url) as client:
        known: dict[int, int] = {}
        searcher = _Searcher(service.url, known, vectors)
        row = 0
        while client.status().generation < 5:
            rows = range(row, row + 20)
            row += 20
            ids = client.append([Experience(visual=vectors[place], confidence=0.5) for place in rows]).ids
            known.update(zip(ids, rows, strict=True))
            if not searcher.is_alive():
                searcher.start()
        searcher.stopped.set()
        searcher.join()

    assert searcher.wrong == []
    assert len(searcher.generations) >= 4
    assert searcher.searches > 100


def test_a_generation_that_is_damaged_is_refused_and_reads_go_on(tmp_path: Path) -> None:
    """Status says why; the generation in service stays; the next good one is taken."""
    vectors = unit_vectors(300, 8)
    with running_service(tmp_path / "data", rebuild__mode="off") as service, BufferClient(service.url) as client:
        ids = client.append([Experience(visual=row, confidence=0.5) for row in vectors]).ids
        (tmp_path / "data" / "pointer").mkdir(exist_ok=True)
        (tmp_path / "data" / "pointer" / "pointer.json").write_text(
            '{"revision":1,"generation":1,"watermark":1,"manifest_sha256":"'
            + "0" * 64
            + '","reason":"rebuild","flipped_at":0}'
        )

        refused = wait_until(lambda: client.status().refused, "the refusal")

        assert "gen-0000000001" in refused.reason
        assert client.status().generation == 0
        assert client.search(vectors=vectors[:5], k=1).ids[:, 0].tolist() == list(ids[:5])

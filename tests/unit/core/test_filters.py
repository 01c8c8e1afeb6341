"""Filters: the right experiences and the right number of them, whatever the condition and however few pass it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from buffer_service.core import Experience, ExperienceBuffer
from buffer_service.core.conditions import parse
from buffer_service.errors import InvalidRequestError
from buffer_service.index import view as view_module
from buffer_service.index.pointer_store import FolderPointer
from buffer_service.index.rebuild import rebuild
from buffer_service.settings import BufferSettings, EmbeddingSettings, IndexSettings, RebuildSettings, Settings
from tests.helpers.device import DEVICE
from tests.helpers.generations import request as rebuild_request
from tests.helpers.vectors import brute_force, unit_vectors

ROWS = 400
VECTORS = unit_vectors(ROWS, 8)
Passes = Callable[[int], bool]
FILTERS: list[tuple[dict[str, Any], Passes]] = [
    ({"tag": "b"}, lambda n: n % 4 == 1),
    ({"tag": ["a", "b"]}, lambda n: n % 4 < 2),
    ({"tag": {"in": ["a", "b"]}}, lambda n: n % 4 < 2),
    ({"tag": {"not_in": ["a", "b"]}}, lambda n: n % 4 == 2),
    ({"tag": {"ne": "a"}}, lambda n: n % 4 in (1, 2)),
    ({"tag": {"exists": False}}, lambda n: n % 4 == 3),
    ({"tag": {"exists": True}}, lambda n: n % 4 != 3),
    ({"tag": "unknown"}, lambda _: False),
    ({"n": {"gte": 100, "lt": 103}}, lambda n: 100 <= n < 103),
    ({"n": 7}, lambda n: n == 7),
    ({"n": {"gt": "7"}}, lambda _: False),
    ({"reward": {"gte": 0.5}}, lambda n: n / ROWS >= 0.5),
    ({"metadata.reward": "in name only"}, lambda n: n % 2 == 0),
    ({"confidence": {"lte": 0.25}}, lambda n: n % 5 < 2),
    ({"question": {"gte": "q2", "lt": "q3"}}, lambda n: str(n).startswith("2")),
    ({"at": {"gte": "2026-03-01T00:00:00Z"}}, lambda n: n % 12 + 1 >= 3),
    ({"nested": {"eq": {"b": 2, "a": [1]}}}, lambda n: n % 3 == 0),
    ({"none": None}, lambda n: n % 10 == 0),
    ({"id": {"lte": 5}}, lambda n: n < 5),
    ({"success_count": {"gte": 1}}, lambda n: n in (3, 4)),
    ({"outcome_count": 1}, lambda n: n in (3, 4, 5)),
    ({"created_at": {"gte": 0}}, lambda _: True),
    ({"success_rate": {"gt": 2}}, lambda _: False),
    ({"tag": "b", "reward": {"lt": 0.1}}, lambda n: n % 4 == 1 and n / ROWS < 0.1),
]


def _experience(number: int) -> Experience:
    metadata: dict[str, Any] = {"n": number, "at": f"2026-{number % 12 + 1:02d}-15T12:00:00Z"}
    if number % 4 != 3:
        metadata["tag"] = "abc"[number % 4]
    if number % 2 == 0:
        metadata["reward"] = "in name only"
    if number % 3 == 0:
        metadata["nested"] = {"a": [1], "b": 2}
    if number % 10 == 0:
        metadata["none"] = None
    return Experience(
        visual=VECTORS[number].tobytes(),
        confidence=(number % 5) / 5,
        question=f"q{number}",
        rewards=[number / ROWS / 2, number / ROWS / 2],
        metadata=metadata,
    )


@pytest.fixture(scope="module", params=["none", "flat", "ivf", "hnsw"])
def buffer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExperienceBuffer]:
    """A buffer of which 300 rows are in an index of each type and 100 in the delta; two have left."""
    folder = tmp_path_factory.mktemp("filters")
    settings = Settings(
        buffer=BufferSettings(capacity=ROWS),
        embedding=EmbeddingSettings(dimension=8),
        index=IndexSettings(faiss_backend=DEVICE, recall_share=0),
        rebuild=RebuildSettings(mode="off"),
    )
    with ExperienceBuffer.open(folder, settings) as opened:
        opened.follower.close()
        opened.append([_experience(number) for number in range(300)])
        if request.param != "none":
            opened.export()
            rebuild(rebuild_request(folder, 1, index_type=request.param), FolderPointer(folder / "pointer"))
            opened.follower.follow()
        opened.append([_experience(number) for number in range(300, ROWS)])
        opened.report_outcomes([(4, True), (5, True), (6, False)])
        opened.remove(2)
        opened.remove(399)
        yield opened


@pytest.mark.parametrize(("wanted", "passes"), FILTERS, ids=lambda value: str(value) if isinstance(value, dict) else "")
@pytest.mark.parametrize("scored_max", [0, 10_000])
def test_a_filter_gives_the_nearest_that_pass_and_no_others(
    buffer: ExperienceBuffer, monkeypatch: pytest.MonkeyPatch, scored_max: int, wanted: dict[str, Any], passes: Passes
) -> None:
    """By scoring all that pass and by searching on until there are k, over main and delta, with the dead left out."""
    monkeypatch.setattr(view_module, "SCORED_ROWS_MAX", scored_max)
    rows = {n + 1: VECTORS[n] for n in range(ROWS) if passes(n) and n not in (1, 398)}
    expected = brute_force(rows, VECTORS[17], 10)

    found = buffer.search(VECTORS[17:18], 10, wanted=wanted).ids[0].tolist()

    count = len(expected)
    assert found[count:] == [-1] * (10 - count)
    if scored_max:
        assert found[:count] == expected
    else:  # an index may pass over a neighbour, but gives k that pass
        assert set(found[:count]) <= set(rows)
        assert len(set(found[:count])) == count


def test_what_comes_later_is_filtered_too(tmp_path: Path) -> None:
    """Columns that were read once are brought up to date, also when most of their rows have left since."""
    settings = Settings(
        buffer=BufferSettings(capacity=20),
        embedding=EmbeddingSettings(dimension=8),
        rebuild=RebuildSettings(mode="off"),
    )
    with ExperienceBuffer.open(tmp_path, settings) as buffer:
        for start in range(0, 3000, 100):
            numbers = range(start, start + 100)
            buffer.append(
                [
                    Experience(visual=VECTORS[n % ROWS].tobytes(), confidence=0.5, metadata={"n": n, "odd": n % 2})
                    for n in numbers
                ]
            )
            found = buffer.search(VECTORS[:1], 20, wanted={"n": {"gte": start + 90}, "odd": 1}).ids[0]
            assert sorted(found[found > 0].tolist()) == list(range(start + 92, start + 101, 2))


@pytest.mark.parametrize(
    ("wanted", "complaint"),
    [
        ({"n": {"above": 1}}, "unknown operator 'above'"),
        ({"n": {"in": 5}}, "takes a list"),
        ({"n": {"in": list(range(1001))}}, "up to 1000"),
        ({"n": {"gt": [1]}}, "a number or a string"),
        ({"n": {"gt": True}}, "a number or a string"),
        ({"n": {"exists": 1}}, "true or false"),
        ({str(place): 1 for place in range(33)}, "33 conditions"),
    ],
)
def test_a_filter_that_is_not_understood_is_refused(wanted: dict[str, Any], complaint: str) -> None:
    """With the place and what is possible."""
    with pytest.raises(InvalidRequestError, match=complaint):
        parse(wanted)

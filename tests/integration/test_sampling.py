"""Draws over HTTP: modes, filters, normalisers, metrics, and the rate limit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

from buffer_client import BufferClient, Experience, Include
from tests.helpers.vectors import unit_vectors
from tests.helpers.waiting import wait_until
from tests.integration.running import running_service

ROWS = unit_vectors(60, 8)
PACKED, OCTETS = "application/msgpack", "application/octet-stream"


def _fill(url: str, count: int = len(ROWS)) -> None:
    with BufferClient(url) as client:
        client.append(
            [Experience(visual=ROWS[n], confidence=0.5, metadata={"tag": "abc"[n % 3]}) for n in range(count)]
        )


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A service with 60 rows."""
    settings: dict[str, Any] = {"sampling__recent_half_life_rows": 5}
    with running_service(tmp_path_factory.mktemp("draws") / "data", **settings) as service:
        _fill(service.url)
        with httpx.Client(base_url=service.url) as plain:
            yield plain


def _sample(http: httpx.Client, packed: bool = False, **body: Any) -> dict[str, Any]:  # noqa: ANN401, FBT001, FBT002
    if packed:
        answer = http.post(
            "/v1/sample", content=msgspec.msgpack.encode(body), headers={"content-type": PACKED, "accept": PACKED}
        )
    else:
        answer = http.post("/v1/sample", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = msgspec.msgpack.decode(answer.content) if packed else answer.json()
    return found


def test_arrays_say_what_items_say(http: httpx.Client) -> None:
    """The same draws, unique and of all, so that they can be compared; vectors are those of the experiences."""
    body = {"size": 60, "unique": True, "mode": "uniform", "beta": 1.0, "include": ["vector", "experience"]}
    items = {item["id"]: item for item in _sample(http, packed=True, **body)["items"]}

    answer = http.post("/v1/sample", json=body, headers={"accept": f"{OCTETS}, {PACKED}"})

    assert answer.headers["content-type"] == OCTETS
    told = [answer.headers[name] for name in ("x-size", "x-dimension", "x-table-size", "x-weight-norm")]
    assert told == ["60", "8", "60", "batch"]
    columns = np.frombuffer(answer.content, "<i8", 4 * 60).reshape(4, 60)
    ids, sequences = columns[0].tolist(), columns[3].tolist()
    probabilities, weights = columns[1].view("<f8").tolist(), columns[2].view("<f8").tolist()
    vectors = np.frombuffer(answer.content, "<f4", 60 * 8, offset=columns.nbytes).reshape(60, 8)
    experiences = msgspec.msgpack.decode(answer.content[columns.nbytes + vectors.nbytes :])
    assert sorted(ids) == sorted(items)
    for place, experience in enumerate(ids):
        item = items[experience]
        assert (item["probability"], item["weight"]) == pytest.approx((probabilities[place], weights[place]))
        assert (item["sequence"], item["vector"]) == (sequences[place], vectors[place].tobytes())
        whole = {name: value for name, value in item["experience"].items() if value is not None}
        moving = {name: whole.pop(name) for name in ("weight", "sample_count")}
        assert {**whole, **{name: experiences[place][name] for name in moving}} == experiences[place]


def test_a_draw_that_is_refused_gets_a_problem_document(http: httpx.Client) -> None:
    """Whatever else the caller accepts."""
    refused = http.post("/v1/sample", json={"size": 0}, headers={"accept": f"{OCTETS}, {PACKED}"})

    assert (refused.status_code, refused.headers["content-type"]) == (422, "application/problem+json")


@pytest.mark.parametrize("include", [(), ("vector",), ("experience",), ("experience", "vector")])
def test_the_client_reads_what_it_asks_for(http: httpx.Client, include: Include) -> None:
    """An empty draw as well."""
    with BufferClient(str(http.base_url)) as client:
        batch = client.sample(40, include=include)
        none = client.sample(4, include=include, filter={"tag": "nobody's"})

    assert (len(batch), len(none)) == (40, 0)
    assert (none.table_size, batch.table_size, batch.weight_norm) == (0, 60, "batch")
    assert (batch.vectors is None, batch.experiences is None) == ("vector" not in include, "experience" not in include)
    if batch.vectors is not None:
        np.testing.assert_allclose(batch.vectors, ROWS[batch.ids - 1], atol=1e-6)
    if batch.experiences is not None:
        assert [item.id for item in batch.experiences] == batch.ids.tolist()
        assert [item.metadata for item in batch.experiences] == [{"tag": "abc"[(n - 1) % 3]} for n in batch.ids]


@pytest.mark.parametrize("packed", [False, True])
def test_an_answer_says_how_it_was_drawn_and_weighed(http: httpx.Client, packed: bool) -> None:  # noqa: FBT001
    """Mode and normaliser come back, as do those that were not named; table_size is what could be drawn."""
    default = _sample(http, packed, size=8)
    named = _sample(http, packed, size=8, mode="recent", weight_norm="floor", beta=1.0, filter={"tag": "a"})

    assert [default[key] for key in ("mode", "weight_norm", "table_size")] == ["prioritised", "batch", 60]
    assert [named[key] for key in ("mode", "weight_norm", "table_size")] == ["recent", "floor", 20]
    assert max(item["weight"] for item in default["items"]) == 1.0
    assert {item["id"] % 3 for item in named["items"]} == {1}
    for item in named["items"]:
        assert item["weight"] == pytest.approx(2.0 ** -((item["id"] - 1) / 5))


def test_uniform_draws_are_alike(http: httpx.Client) -> None:
    """One over the number that pass, and no weights."""
    found = _sample(http, size=20, mode="uniform", unique=True, filter={"tag": ["a", "b"], "id": {"lte": 30}})

    assert sorted(item["id"] for item in found["items"]) == [n for n in range(1, 31) if n % 3]
    assert {(item["probability"], item["weight"]) for item in found["items"]} == {(1 / 20, 1.0)}


def test_a_filter_that_nothing_passes_gives_no_items(http: httpx.Client) -> None:
    """And says so by the size."""
    found = _sample(http, size=4, filter={"tag": "nobody's"})

    assert (found["items"], found["table_size"]) == ([], 0)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"mode": "sideways"}, "mode"),
        ({"weight_norm": "most"}, "weight_norm"),
        ({"filter": {"reward": {"near": 1}}}, "unknown operator 'near'"),
        ({"unique": True, "filter": {"tag": "a"}, "size": 21}, "21 unique draws from 20 experiences"),
    ],
)
def test_what_cannot_be_drawn_is_refused(http: httpx.Client, body: dict[str, Any], words: str) -> None:
    """With 422 and the place or the number."""
    refused = http.post("/v1/sample", json={"size": 4, **body})

    assert refused.status_code == 422
    assert words in refused.json()["detail"]


def test_evenness_of_the_draws_is_a_metric(http: httpx.Client) -> None:
    """All rows weigh alike, so the effective size is their number; the first scrape has it measured."""
    lines = wait_until(
        lambda: [line for line in http.get("/metrics").text.splitlines() if line.startswith("xbuf_sampling_")],
        "the metrics of sampling",
    )
    values = {line.split()[0]: float(line.split()[1]) for line in lines}

    assert values["xbuf_sampling_effective_size"] == pytest.approx(60.0, rel=0.01)
    assert values["xbuf_sampling_entropy_nats"] == pytest.approx(4.094, rel=0.01)


def test_draws_and_appends_wait_for_each_other(tmp_path: Path) -> None:
    """503 below the least size, 429 beyond the ratio on either side, each with Retry-After."""
    limits = {"min_size": 2, "samples_per_insert": 2, "error_buffer": 4, "limit_inserts": True}
    settings = {f"sampling__{name}": value for name, value in limits.items()}
    body = {"experiences": [{"visual": ROWS[0].tolist(), "confidence": 0.5}]}
    with running_service(tmp_path / "data", **settings) as service, httpx.Client(base_url=service.url) as http:
        early = http.post("/v1/sample", json={"size": 1})
        _fill(service.url, 5)
        too_many = http.post("/v1/experiences", json=body)
        metrics = http.get("/metrics").text
        _sample(http, size=8)
        added = http.post("/v1/experiences", json=body)
        too_far = http.post("/v1/sample", json={"size": 5})

    assert [(answer.status_code, answer.json()["code"]) for answer in (early, too_many, too_far)] == [
        (503, "too-few-experiences"),
        (429, "rate-limited"),
        (429, "rate-limited"),
    ]
    assert all("retry-after" in answer.headers for answer in (early, too_many, too_far))
    assert added.status_code == 201
    assert "xbuf_sampling_room 10.0" in metrics

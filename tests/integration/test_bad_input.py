"""Bad input over HTTP: a problem document that says what to do, and the store as it was."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import msgspec
import numpy as np
import pytest

from tests.integration.running import running_service

GOOD = [1.0, 0, 0, 0, 0, 0, 0, 0]


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a service that holds one experience."""
    folder = tmp_path_factory.mktemp("bad-input") / "data"
    with (
        running_service(folder, server__body_bytes_max=100_000) as service,
        httpx.Client(base_url=service.url) as client,
    ):
        answer = client.post("/v1/experiences", json={"experiences": [{"visual": GOOD, "confidence": 0.5}]})
        assert answer.status_code == 201
        yield client


def _experience(**changes: object) -> dict[str, object]:
    return {"experiences": [{"visual": GOOD, "confidence": 0.5, **changes}]}


_JSON_CASES = [
    ("wrong dimension", "/v1/experiences", _experience(visual=[1, 2]), 422, "dimension is 8"),
    ("beyond float32", "/v1/experiences", _experience(visual=[3.5e38, *GOOD[1:]]), 422, "float32"),
    ("zero vector", "/v1/experiences", _experience(visual=[0] * 8), 422, "zero vector"),
    ("no vector", "/v1/experiences", _experience(visual=None), 422, "visual, text or both"),
    ("unknown field", "/v1/experiences", _experience(colour="red"), 422, "colour"),
    ("confidence above one", "/v1/experiences", _experience(confidence=1.1), 422, "confidence"),
    ("confidence of text", "/v1/experiences", _experience(confidence="high"), 422, "confidence"),
    ("no confidence", "/v1/experiences", {"experiences": [{"visual": GOOD}]}, 422, "confidence"),
    ("no experience", "/v1/experiences", {"experiences": []}, 422, "1 to 4096"),
    ("too many", "/v1/experiences", {"experiences": [{"confidence": 0}] * 4097}, 422, "4097"),
    ("empty client_id", "/v1/experiences", _experience(client_id=""), 422, "client_id"),
    (
        "one bad of two",
        "/v1/experiences",
        {"experiences": [{"visual": GOOD, "confidence": 0}, {"confidence": 0}]},
        422,
        "",
    ),
    ("k of zero", "/v1/search", {"vector": GOOD, "k": 0}, 422, "k is 0"),
    ("k of millions", "/v1/search", {"vector": GOOD, "k": 5_000_000}, 422, "5000000"),
    ("k of text", "/v1/search", {"vector": GOOD, "k": "10"}, 422, "k"),
    ("no query", "/v1/search", {"k": 3}, 422, "vector"),
    ("two queries", "/v1/search", {"vector": GOOD, "visual": GOOD}, 422, "either"),
    ("a sequence of the future", "/v1/search", {"vector": GOOD, "min_sequence": 10**6}, 503, "1000000"),
    ("size of zero", "/v1/sample", {"size": 0}, 422, "0 draws"),
    ("negative size", "/v1/sample", {"size": -1}, 422, "-1 draws"),
    ("beta of nine", "/v1/sample", {"size": 1, "beta": 9}, 422, "beta"),
    ("more unique than there are", "/v1/sample", {"size": 3, "unique": True}, 422, "unique"),
    ("priority of the future", "/v1/priorities", {"updates": [{"id": 99, "priority": 1}]}, 404, "99"),
    ("id of zero", "/v1/priorities", {"updates": [{"id": 0, "priority": 1}]}, 404, "0"),
    ("negative priority", "/v1/priorities", {"updates": [{"id": 1, "priority": -1}]}, 422, "priority"),
    ("outcome of the future", "/v1/outcomes", {"outcomes": [{"id": 99, "success": True}]}, 404, "99"),
    ("success of text", "/v1/outcomes", {"outcomes": [{"id": 1, "success": "yes"}]}, 422, "success"),
    ("rollback to nowhere", "/v1/admin/rollback", {"generation": 7}, 409, "gen-0000000007"),
    ("rollback to text", "/v1/admin/rollback", {"generation": "seven"}, 422, "generation"),
]


def _check(answer: httpx.Response, status: int, detail: str) -> None:
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, problem["status"]) == (status, status)
    assert detail in problem["detail"]


@pytest.mark.parametrize(
    ("path", "body", "status", "detail"), [case[1:] for case in _JSON_CASES], ids=[case[0] for case in _JSON_CASES]
)
def test_bad_json_is_refused_and_changes_nothing(
    http: httpx.Client, path: str, body: object, status: int, detail: str
) -> None:
    """The right status, the field or value in the sentence, and the same sequence number as before."""
    before = http.get("/v1/status").json()["sequence"]

    _check(http.post(path, json=body), status, detail)

    assert http.get("/v1/status").json()["sequence"] == before


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'{"experiences": [{"confidence": 0.5, "visual": [NaN,0,0,0,0,0,0,0]}]}',
        b'{"experiences": [{"confidence": 0.5, "visual": [Infinity,0,0,0,0,0,0,0]}]}',
        b'{"experiences": [{"confidence": 0.5, "visual": [1e400,0,0,0,0,0,0,0]}]}',
        b'{"experiences": [{"confidence": 0.5, "visual": [1,0,0,0,0,0,0,0], "metadata": ' + b"[" * 30_000,
        b"\xff\xfe",
    ],
    ids=["empty", "cut", "null", "list", "NaN", "Infinity", "1e400", "deep", "not text"],
)
def test_text_that_is_no_proper_json_is_refused(http: httpx.Client, text: bytes) -> None:
    """Including what Python's own parser would let pass."""
    _check(http.post("/v1/experiences", content=text), 422, "the body cannot be used")


def test_infinity_in_message_pack_is_refused(http: httpx.Client) -> None:
    """MessagePack can carry what JSON cannot; it is refused all the same."""
    for bad in (float("nan"), float("inf")):
        body = msgspec.msgpack.encode(_experience(visual=[bad, *GOOD[1:]]))
        answer = http.post("/v1/experiences", content=body, headers={"content-type": "application/msgpack"})
        _check(answer, 422, "NaN, infinity")
    body = msgspec.msgpack.encode(_experience(reward=float("nan")))
    _check(http.post("/v1/experiences", content=body, headers={"content-type": "application/msgpack"}), 422, "finite")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_long_is_refused_before_it_is_read(http: httpx.Client, *, chunked: bool) -> None:
    """413, whether the length was announced or not."""
    body = b" " * 200_000

    answer = http.post("/v1/experiences", content=iter([body]) if chunked else body)

    _check(answer, 413, "100000 bytes")


def test_raw_queries_must_be_whole_rows(http: httpx.Client) -> None:
    """A cut float32 body, a k that is no number, NaN in binary."""
    headers = {"content-type": "application/octet-stream"}
    good = np.array(GOOD, "<f4").tobytes()
    bad = np.full(8, np.nan, "<f4").tobytes()

    _check(http.post("/v1/search", content=good[:-1], headers=headers), 422, "multiple of 32")
    _check(http.post("/v1/search?k=ten", content=good, headers=headers), 422, "whole number")
    _check(http.post("/v1/search?k=0", content=good, headers=headers), 422, "k is 0")
    _check(http.post("/v1/search", content=bad, headers=headers), 422, "NaN")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/experiences/99", 404),
        ("GET", "/v1/experiences/-1", 404),
        ("GET", "/v1/experiences/first", 422),
        ("DELETE", "/v1/experiences/99", 404),
        ("GET", "/v1/experiences?limit=0", 422),
        ("GET", "/v1/experiences?limit=99999", 422),
        ("GET", "/v1/nothing", 404),
        ("PUT", "/v1/search", 405),
        ("GET", "/../../etc/passwd", 404),
    ],
)
def test_bad_paths_are_problems_too(http: httpx.Client, method: str, path: str, status: int) -> None:
    """Whatever is asked for, the answer is a problem document."""
    _check(http.request(method, path), status, "")


def test_another_content_type_is_refused(http: httpx.Client) -> None:
    """The sentence names what is understood."""
    answer = http.post("/v1/experiences", content=b"a=1", headers={"content-type": "application/x-www-form-urlencoded"})

    _check(answer, 422, "application/json")


def test_the_same_client_id_with_another_content_is_a_conflict(http: httpx.Client) -> None:
    """And the same content again is the first answer."""
    first = http.post("/v1/experiences", json=_experience(client_id="x"))
    again = http.post("/v1/experiences", json=_experience(client_id="x"))
    other = http.post("/v1/experiences", json=_experience(client_id="x", confidence=0.6))

    assert again.json()["ids"] == first.json()["ids"]
    _check(other, 409, "client_id x")

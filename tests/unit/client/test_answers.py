"""How answers are read: every field where it belongs, and ProtocolError for what is not an answer of the service."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from buffer_client import UpdateStatus, answers, calls
from buffer_client.errors import ProtocolError
from buffer_client.models import Include
from buffer_client.wire import Response, read


def json_response(value: object, status: int = 200) -> Response:
    """Return a response with a JSON body."""
    return Response(status, {"content-type": "application/json"}, msgspec.json.encode(value))


def updates(*statuses: str) -> Response:
    """Return the answer to an update of as many ids."""
    return json_response({"results": [{"id": place, "status": status} for place, status in enumerate(statuses)]})


def raw_response(ids: list[int], scores: list[float]) -> Response:
    """Return the raw answer to a search."""
    body = np.array(ids, "<i8").tobytes() + np.array(scores, "<f4").tobytes()
    return Response(200, {"x-sequence": "12", "x-generation": "3"}, body)


def hit(experience: int, vector: list[float] | None = None) -> dict[str, object]:
    """Return a neighbour."""
    return {"id": experience, "score": 0.5} | ({} if vector is None else {"vector": vector})


def found(*hits: dict[str, object]) -> Response:
    """Return the answer to one query."""
    return json_response({"results": [hits], "sequence": 1, "generation": 1})


def test_vectors_are_one_array_padded_like_ids() -> None:
    """Float32, from lists and from bytes alike; a neighbour without the vector that was asked for is left out."""
    packed = {"results": [[{"id": 2, "score": 0.5, "vector": np.array([1.5, 2.5], "<f4").tobytes()}]]}
    body = msgspec.msgpack.encode({**packed, "sequence": 1, "generation": 1})
    answered = Response(200, {"content-type": "application/msgpack"}, body)

    listed = answers.search(found(hit(1), hit(2, [1.5, 2.5])), count=1, k=2, include=("vector",))
    same = answers.search(answered, count=1, k=2, include=("vector",))

    for result in (listed, same):
        assert result.ids.tolist() == [[2, -1]]
        assert result.vectors is not None
        assert result.vectors.dtype == np.float32
        np.testing.assert_array_equal(result.vectors, [[[1.5, 2.5], [np.nan, np.nan]]])


def test_appended_ids_are_int64_in_the_order_given() -> None:
    """One id per experience."""
    result = answers.append(json_response({"ids": [8, 7], "sequence": 21}, 201), count=2)

    assert result.ids.dtype == np.int64
    assert result.ids.tolist() == [8, 7]
    assert result.sequence == 21


def test_a_raw_search_is_cut_into_rows_of_k() -> None:
    """Ids come first, then scores; sequence and generation are headers."""
    result = answers.search_raw(raw_response([1, 2, 3, -1], [0.9, 0.8, 0.7, 0.0]), count=2, k=2)

    assert result.ids.tolist() == [[1, 2], [3, -1]]
    np.testing.assert_array_equal(result.scores, np.array([[0.9, 0.8], [0.7, np.nan]], np.float32))
    assert (result.sequence, result.generation, result.experiences) == (12, 3, None)


def test_a_json_search_is_padded_like_a_raw_one() -> None:
    """Fewer neighbours than k leave -1 and NaN, in either form."""
    found = {"results": [[{"id": 5, "score": 0.5}], []], "sequence": 1, "generation": 0}

    result = answers.search(json_response(found), count=2, k=2)

    assert result.ids.tolist() == [[5, -1], [-1, -1]]
    np.testing.assert_array_equal(result.scores, np.array([[0.5, np.nan], [np.nan, np.nan]], np.float32))


def test_neighbours_come_with_their_experiences() -> None:
    """They stand in the order of the ids."""
    hit = {"id": 5, "score": 0.5, "experience": {"id": 5, "metadata": {"label": 3}, "unknown": 1}}
    found = {"results": [[hit]], "sequence": 1, "generation": 0}

    result = answers.search(json_response(found), count=1, k=2, include=("experience",))

    assert result.experiences is not None
    assert [item.metadata for item in result.experiences[0]] == [{"label": 3}]


def test_a_neighbour_that_left_meanwhile_is_left_out_where_experiences_were_asked_for() -> None:
    """Ids, scores and experiences stay side by side."""
    hits = [{"id": 4, "score": 0.9}, {"id": 5, "score": 0.5, "experience": {"id": 5}}]
    found = {"results": [hits], "sequence": 1, "generation": 0}

    result = answers.search(json_response(found), count=1, k=2, include=("experience",))

    assert result.ids.tolist() == [[5, -1]]
    assert result.scores[0, 0] == np.float32(0.5)
    assert result.experiences is not None
    assert [item.id for item in result.experiences[0]] == [5]


def test_answers_are_read_by_their_content_type() -> None:
    """MessagePack where the service offers it."""
    packed = msgspec.msgpack.encode({"ids": [3], "sequence": 4})

    result = answers.append(Response(201, {"content-type": "application/msgpack"}, packed), count=1)

    assert result.ids.tolist() == [3]


def test_a_sample_becomes_parallel_arrays() -> None:
    """Each item's fields stand at the same position."""
    items = [
        {"id": 4, "probability": 0.25, "weight": 1.0, "sequence": 9},
        {"id": 6, "probability": 0.75, "weight": 0.5, "sequence": 8},
    ]

    batch = answers.sample(json_response({"items": items, "table_size": 2}))

    assert len(batch) == 2
    assert batch.ids.tolist() == [4, 6]
    assert batch.probabilities.tolist() == [0.25, 0.75]
    assert batch.weights.tolist() == [1.0, 0.5]
    assert batch.sequences.tolist() == [9, 8]
    assert (batch.table_size, batch.experiences) == (2, None)


def drawn(vectors: bytes = b"", **headers: str) -> Response:
    """Return the arrays of two draws."""
    columns = [np.array([4, 6], "<i8"), np.array([0.25, 0.75]), np.array([1.0, 0.5]), np.array([9, 8], "<i8")]
    body = b"".join(column.tobytes() for column in columns) + vectors
    sent = {"content-type": "application/octet-stream", "x-size": "2", "x-table-size": "7", "x-weight-norm": "floor"}
    return Response(200, {**sent, **headers}, body)


def test_a_sample_in_arrays_is_read_as_one_in_items() -> None:
    """With its vectors where they were asked for; the arrays are the caller's own."""
    rows = np.arange(6, dtype="<f4").reshape(2, 3)

    batch = answers.sample(drawn(rows.tobytes(), **{"x-dimension": "3"}), include=("vector",))

    assert (batch.ids.tolist(), batch.sequences.tolist()) == ([4, 6], [9, 8])
    assert (batch.probabilities.tolist(), batch.weights.tolist()) == ([0.25, 0.75], [1.0, 0.5])
    assert (batch.table_size, batch.weight_norm, batch.experiences) == (7, "floor", None)
    assert batch.vectors is not None
    assert batch.vectors.tolist() == rows.tolist()
    batch.vectors[0, 0] = batch.weights[0] = 5.0
    assert answers.sample(drawn()).vectors is None


@pytest.mark.parametrize("include", [("experience",), ("experience", "vector")])
def test_experiences_follow_the_arrays(include: Include) -> None:
    """As one MessagePack array, behind the vectors where there are some."""
    experiences = msgspec.msgpack.encode([{"id": 4, "reward": 0.5}, {"id": 6, "metadata": {"tag": "a"}}])
    vectors = np.arange(6, dtype="<f4").tobytes() if "vector" in include else b""

    batch = answers.sample(drawn(vectors + experiences, **{"x-dimension": "3"}), include=include)

    assert batch.experiences is not None
    assert [(item.id, item.reward, item.metadata) for item in batch.experiences] == [
        (4, 0.5, None),
        (6, None, {"tag": "a"}),
    ]
    assert (batch.vectors is not None) == ("vector" in include)


def test_no_draws_in_arrays_are_an_empty_batch() -> None:
    """As from an empty buffer."""
    headers = {"content-type": "application/octet-stream", "x-size": "0", "x-dimension": "3", "x-table-size": "0"}
    batch = answers.sample(Response(200, headers, b""), include=("vector",))
    assert len(batch) == 0
    assert batch.vectors is not None
    assert batch.vectors.shape == (0, 3)


@pytest.mark.parametrize(
    ("response", "include"),
    [
        (drawn(b"12345678"), ("vector",)),
        (drawn(b"1234"), ()),
        (drawn(b"12345678", **{"x-dimension": "2"}), ("vector",)),
        (drawn(b"1234567", **{"x-dimension": "1"}), ("vector",)),
        (drawn(b"12345678", **{"x-dimension": "-1"}), ("vector",)),
        (drawn(), ("experience",)),
        (drawn(msgspec.msgpack.encode([{"id": 4}])), ("experience",)),
        (drawn(msgspec.msgpack.encode([{"id": 4}, {"id": 6}])[:-1]), ("experience",)),
        (drawn(msgspec.msgpack.encode([{"id": 4}, {"id": 6}]) + b"1"), ("experience",)),
        (drawn(**{"x-size": "3"}), ()),
        (drawn(**{"x-size": "1"}), ()),
        (drawn(**{"x-size": "-2"}), ()),
        (drawn(**{"x-size": "many"}), ()),
        (drawn(**{"x-table-size": ""}), ()),
    ],
)
def test_arrays_of_another_length_are_no_answer(response: Response, include: Include) -> None:
    """Cut off, too long, or not as many as are announced."""
    with pytest.raises(ProtocolError):
        answers.sample(response, include=include)


@pytest.mark.parametrize("vectors", [(b"12345678", [1.0, 2.0]), (b"1234", b"12345678"), (b"123", b"123")])
def test_vectors_that_make_no_matrix_are_no_answer(vectors: tuple[object, object]) -> None:
    """Of two kinds, of two lengths, or of a length that is not that of float32."""
    fields = {"probability": 0.5, "weight": 1.0, "sequence": 1}
    body = msgspec.msgpack.encode({"items": [{"id": 1, **fields, "vector": row} for row in vectors], "table_size": 2})
    with pytest.raises(ProtocolError):
        answers.sample(Response(200, {"content-type": "application/msgpack"}, body), include=("vector",))


def test_the_last_page_has_no_cursor() -> None:
    """Absent and null mean the same."""
    assert answers.page(json_response({"experiences": [{"id": 4}], "next_cursor": 17})).next_cursor == 17
    assert answers.page(json_response({"experiences": [], "next_cursor": None})).next_cursor is None
    assert answers.page(json_response({"experiences": []})).next_cursor is None


def test_statuses_are_typed() -> None:
    """A status that is not known is no answer of this contract."""
    assert answers.statuses(updates("applied", "stale"), count=2) == [
        UpdateStatus.APPLIED,
        UpdateStatus.STALE,
    ]
    with pytest.raises(ProtocolError):
        answers.statuses(updates("perhaps"), count=1)


@pytest.mark.parametrize(
    "call",
    [
        lambda: answers.append(json_response({"ids": [1], "sequence": 1}), count=2),
        lambda: answers.append(Response(200, {}, b"<html>"), count=1),
        lambda: answers.search_raw(raw_response([1], [0.1]), count=2, k=1),
        lambda: answers.search_raw(Response(200, {}, bytes(12)), count=1, k=1),
        lambda: answers.search(json_response({"results": [], "sequence": 1, "generation": 1}), count=1, k=1),
        lambda: answers.search(found(hit(1)), count=1, k=1, ranked=True),
        lambda: answers.search(found(hit(1, [1.0]), hit(2, [1.0, 2.0])), count=1, k=2, include=("vector",)),
        lambda: answers.exported(Response(200, {}, b"")),
        lambda: answers.statuses(updates(), count=1),
        lambda: read(calls.get(1), Response(302, {"location": "/login"}, b"")),
    ],
)
def test_an_answer_that_does_not_fit_the_request_is_a_protocol_error(call: object) -> None:
    """Too few, too many, unreadable, without headers, or from somewhere else."""
    with pytest.raises(ProtocolError):
        call()  # type: ignore[operator]

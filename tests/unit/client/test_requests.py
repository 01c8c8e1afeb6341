"""What the client sends: one test per rule of the contract, on values, with no network."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from buffer_client import Experience, Rank, SearchResult, calls
from buffer_client.wire import MESSAGE_PACK, OCTETS, Call, Repeat, matrix, vector


def search_call(vectors: object = None, **given: object) -> Call[SearchResult]:
    """Return a search call with the defaults that the clients use."""
    arguments: dict[str, object] = {
        "visual": None,
        "text": None,
        "k": 3,
        "where": None,
        "rank": None,
        "include": (),
        "min_sequence": 0,
    }
    return calls.search(vectors, **(arguments | given))  # type: ignore[arg-type]


def test_an_append_is_message_pack_with_vectors_as_little_endian_float32() -> None:
    """What is absent is left out."""
    given = Experience(visual=[1.0, -2.5], confidence=0.5, reward=1, metadata={"run": "a"}, client_id="c1")

    request = calls.append([calls.encode(given)]).request

    sent = msgspec.msgpack.decode(request.body)["experiences"]
    assert (request.method, request.path, request.content_type) == ("POST", "/v1/experiences", MESSAGE_PACK)
    assert sent == [
        {
            "client_id": "c1",
            "confidence": 0.5,
            "visual": np.array([1.0, -2.5], "<f4").tobytes(),
            "reward": 1.0,
            "metadata": {"run": "a"},
        }
    ]


def test_every_experience_gets_a_client_id_of_its_own_that_stays() -> None:
    """The same object appended twice names the same experience, two objects never do."""
    first, second = (Experience(visual=[1.0], confidence=1.0) for _ in range(2))

    bodies = [calls.append([calls.encode(first)]).request.body for _ in range(2)]

    assert bodies[0] == bodies[1]
    assert first.client_id != second.client_id


def test_numbers_of_numpy_are_sent_as_plain_numbers() -> None:
    """Rewards, confidence and trajectories come out of arrays in practice."""
    given = Experience(
        text=np.ones(2),
        confidence=float(np.float32(0.25)),
        rewards=list(np.array([1.0, 2.0])),
        trajectory=({"step": 1},),
    )

    (sent,) = msgspec.msgpack.decode(calls.append([calls.encode(given)]).request.body)["experiences"]

    assert sent["confidence"] == 0.25
    assert sent["rewards"] == [1.0, 2.0]
    assert sent["trajectory"] == [{"step": 1}]


def test_a_search_for_ids_and_scores_travels_as_raw_float32() -> None:
    """The row count is implied by the length of the body."""
    request = search_call([[1, 2], [3, 4]], min_sequence=7).request

    assert request.content_type == OCTETS
    assert request.body == np.array([1, 2, 3, 4], "<f4").tobytes()
    assert dict(request.query) == {"k": "3", "min_sequence": "7"}


@pytest.mark.parametrize("given", [{"include": ("experience",)}, {"where": {"label": 3}}])
def test_a_search_that_needs_more_than_vectors_is_message_pack(given: dict[str, object]) -> None:
    """Filters and experiences have no place in the raw form."""
    request = search_call([1.0, 2.0], **given).request

    sent = msgspec.msgpack.decode(request.body)
    assert sent["vectors"] == [np.array([1.0, 2.0], "<f4").tobytes()]
    assert sent.get("filter") == given.get("where")
    assert sent.get("include") == (["experience"] if "include" in given else None)


def test_a_ranked_search_says_what_it_was_told_and_no_more() -> None:
    """The service knows the rest; a rank without choices is a rank."""
    told = Rank(candidates=30, freshness_half_life_s=60.0)
    sent = [
        msgspec.msgpack.decode(search_call([1.0], rank=rank, include=("vector", "experience")).request.body)
        for rank in (told, Rank())
    ]

    powers = {"similarity_power": 1.0, "success_power": 1.0}
    assert [body["rank"] for body in sent] == [{"candidates": 30, "freshness_half_life_s": 60.0, **powers}, powers]
    assert sent[0]["include"] == ["experience", "vector"]


def test_a_search_by_modality_is_one_query() -> None:
    """The service fuses visual and text as it does for experiences."""
    sent = msgspec.msgpack.decode(search_call(visual=[1.0], text=[2.0], min_sequence=4).request.body)

    assert sent == {
        "k": 3,
        "visual": np.array([1.0], "<f4").tobytes(),
        "text": np.array([2.0], "<f4").tobytes(),
        "min_sequence": 4,
    }


@pytest.mark.parametrize("given", [{}, {"vectors": [1.0], "visual": [1.0]}])
def test_a_search_needs_vectors_or_a_modality_and_not_both(given: dict[str, object]) -> None:
    """Neither is a query, both are two."""
    with pytest.raises(ValueError, match="either vectors"):
        search_call(**given)


def test_vectors_become_contiguous_float32_rows() -> None:
    """Any stride, dtype or nesting is accepted; a single vector is a matrix of one row."""
    transposed = np.arange(6, dtype=np.float64).reshape(2, 3).T

    rows = matrix(transposed)

    assert rows.flags.c_contiguous
    assert rows.dtype == np.dtype("<f4")
    assert rows.tolist() == [[0, 3], [1, 4], [2, 5]]
    assert matrix([1, 2]).shape == (1, 2)


def test_what_float32_cannot_hold_is_left_for_the_service_to_refuse() -> None:
    """No warning, and no silent clipping."""
    assert np.isinf(vector([3.5e38])).all()


@pytest.mark.parametrize("wrong", [np.zeros((2, 2, 2)), 1.0])
def test_other_shapes_are_refused_before_anything_is_sent(wrong: object) -> None:
    """Only vectors and matrices have a meaning."""
    with pytest.raises(ValueError, match="dimension"):
        matrix(wrong)  # type: ignore[arg-type]


def test_a_matrix_is_no_vector() -> None:
    """An experience has one vector per modality."""
    with pytest.raises(ValueError, match="matrix of 2"):
        vector(np.zeros((2, 3)))


def test_priorities_carry_the_sequences_only_where_given() -> None:
    """Without them an update is unconditional."""
    plain = msgspec.msgpack.decode(calls.update_priorities(np.array([4]), [0.5], None).request.body)
    guarded = msgspec.msgpack.decode(calls.update_priorities([4], np.array([0.5]), [9]).request.body)

    assert plain == {"updates": [{"id": 4, "priority": 0.5}]}
    assert guarded == {"updates": [{"id": 4, "priority": 0.5, "sequence": 9}]}


def test_columns_of_unequal_length_are_refused() -> None:
    """A missing priority must not shift the others."""
    with pytest.raises(ValueError, match="zip"):
        calls.update_priorities([1, 2], [0.5], None)


def test_outcomes_always_carry_a_request_id() -> None:
    """It is what makes a repetition count once."""
    sent = msgspec.msgpack.decode(calls.report_outcomes([1, 2], [True, False], None).request.body)

    assert len(sent["request_id"]) == 32
    assert sent["outcomes"] == [{"id": 1, "success": True}, {"id": 2, "success": False}]


def test_only_what_is_answered_the_same_twice_counts_as_repeatable() -> None:
    """Priorities with sequences, removals and rollbacks are not."""
    once: list[Call[Any]] = [calls.remove(1), calls.update_priorities([1], [1.0], [1]), calls.rollback(1)]
    idempotent: list[Call[Any]] = [calls.append([]), calls.report_outcomes([1], [True], None), calls.write_export()]

    assert {call.repeat for call in once} == {Repeat.ONCE}
    assert {call.repeat for call in idempotent} == {Repeat.IDEMPOTENT}
    assert search_call([1.0]).repeat is Repeat.READ

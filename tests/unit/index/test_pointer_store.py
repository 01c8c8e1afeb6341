"""The pointer: moved by compare-and-swap, read whole or not at all."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from buffer_service.contract.names import POINTER_KEY
from buffer_service.contract.pointer import (
    INITIAL,
    InvalidPointerError,
    Pointer,
    decode_pointer,
    encode_pointer,
    successor,
)
from buffer_service.index.errors import PointerConflictError
from buffer_service.index.pointer_store import FolderPointer

_SHA = "ab" * 32


def _next(pointer: Pointer, generation: int) -> Pointer:
    return successor(pointer, generation=generation, watermark=5, manifest_sha256=_SHA, reason="rebuild", now=1.5)


def test_a_missing_pointer_is_the_initial_one(tmp_path: Path) -> None:
    """Before the first generation there is no file."""
    assert FolderPointer(tmp_path / "none").read() == INITIAL


def test_a_moved_pointer_reads_back(tmp_path: Path) -> None:
    """What was swapped in is what is read."""
    store = FolderPointer(tmp_path)
    store.swap(INITIAL, _next(INITIAL, 1))

    assert store.read() == _next(INITIAL, 1)


def test_a_swap_from_another_state_is_refused(tmp_path: Path) -> None:
    """Someone who decided on an old pointer must decide anew."""
    store = FolderPointer(tmp_path)
    store.swap(INITIAL, _next(INITIAL, 1))

    with pytest.raises(PointerConflictError, match="revision 1"):
        store.swap(INITIAL, _next(INITIAL, 2))


def _move_many(folder: str, moves: int) -> None:
    store = FolderPointer(Path(folder))
    while moves:
        current = store.read()
        try:
            store.swap(current, _next(current, current.generation + 1))
        except PointerConflictError:
            continue
        moves -= 1


def test_no_move_is_lost_between_processes(tmp_path: Path) -> None:
    """Two processes that move it 20 times each leave it at revision 40."""
    context = multiprocessing.get_context("spawn")
    movers = [context.Process(target=_move_many, args=(str(tmp_path), 20)) for _ in range(2)]
    for mover in movers:
        mover.start()
    for mover in movers:
        mover.join()

    assert [mover.exitcode for mover in movers] == [0, 0]
    assert FolderPointer(tmp_path).read().revision == 40


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"generation": 1}',
        encode_pointer(_next(INITIAL, 1)).replace(_SHA, "short"),
        encode_pointer(_next(INITIAL, 1)).replace('"generation":1', '"generation":-1'),
        encode_pointer(_next(INITIAL, 1)).replace('"generation":1', '"generation":"../../etc"'),
        encode_pointer(_next(INITIAL, 1)).replace("}", ',"more":1}'),
        "x" * 1_000_000,
    ],
    ids=["empty", "cut", "list", "fields missing", "digest", "negative", "path", "unknown field", "megabyte"],
)
def test_junk_is_refused_with_a_reason(tmp_path: Path, text: str) -> None:
    """Whatever stands in the file, it is a pointer or an error."""
    (tmp_path / POINTER_KEY).write_text(text)

    with pytest.raises(InvalidPointerError):
        FolderPointer(tmp_path).read()


def test_a_pointer_survives_its_text_form() -> None:
    """Encode and decode are inverse."""
    pointer = _next(INITIAL, 3)

    assert decode_pointer(encode_pointer(pointer)) == pointer

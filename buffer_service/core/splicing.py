"""Experiences as MessagePack, put together from their payloads, which are MessagePack already: nothing is decoded.

An experience is a map: its numbers in a fixed width, so that those of a whole batch are written column by column, then
what its payload holds, then its client_id. A field that an experience lacks is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

Column = npt.NDArray[np.generic]

_MAP, _INTEGER, _FLOAT, _ARRAY = b"\xde", b"\xd3", b"\xcb", b"\xdd"
_FEW_FIELDS = 0x80
"""A map of up to 15 fields begins with this and their number in one byte."""
_VALUE_BYTES = 8

_encode = msgspec.msgpack.Encoder().encode
_CLIENT_ID = _encode("client_id")


def splice(
    payloads: Sequence[bytes],
    client_ids: Sequence[str | None],
    numbers: Mapping[str, Column],
    last: tuple[str, npt.NDArray[np.float64]],
) -> bytes:
    """Return an array of one map for each payload, with its number from each column.

    NaN in the ``last`` column stands for nothing. Payloads are what ``prepare_experience`` made.
    """
    name, values = last
    there = ~np.isnan(values)
    named = [b"" if client_id is None else _CLIENT_ID + _encode(client_id) for client_id in client_ids]
    given = [(payload[0] ^ _FEW_FIELDS) + bool(item) for payload, item in zip(payloads, named, strict=True)]
    heads, head_bytes = _heads(np.array(given, np.int64) + len(numbers) + there, {**numbers, name: values})
    starts = np.arange(len(payloads)) * head_bytes
    ends = starts + np.where(there, head_bytes, head_bytes - len(_encode(name)) - len(_FLOAT) - _VALUE_BYTES)
    parts = [_ARRAY + len(payloads).to_bytes(4, "big")]
    for start, end, payload, item in zip(starts.tolist(), ends.tolist(), payloads, named, strict=True):
        parts += heads[start:end], payload[1:], item
    return b"".join(parts)


def _heads(counts: npt.NDArray[np.int64], columns: Mapping[str, Column]) -> tuple[bytes, int]:
    """Return the number of fields and these fields of each map, one map after the other, and the bytes of one map.

    Whole numbers are int64, others float64.
    """
    row, fields = _MAP + bytes(2), [("", ">u2", len(_MAP))]
    for name, values in columns.items():
        is_whole = np.issubdtype(values.dtype, np.integer)
        row += _encode(name) + (_INTEGER if is_whole else _FLOAT)
        fields.append((name, ">i8" if is_whole else ">f8", len(row)))
        row += bytes(_VALUE_BYTES)
    names, kinds, offsets = zip(*fields, strict=True)
    rows = bytearray(row * len(counts))
    cells = np.frombuffer(rows, np.dtype({"names": names, "formats": kinds, "offsets": offsets, "itemsize": len(row)}))
    for name, values in {"": counts, **columns}.items():
        cells[name] = values
    return bytes(rows), len(row)

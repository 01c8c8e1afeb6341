"""A buffer's content as a table for analysis, in Arrow's file format (Feather) or Parquet, written part by part.

One row for each live experience, by rising id, all at one sequence number, which the schema's metadata name. The only
module that knows pyarrow, an optional extra, and it imports it when it is needed. Memory holds one batch, however
many rows there are. One thread at a time.
"""

from __future__ import annotations

import io
import math
from collections.abc import Generator, Iterator, Mapping
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from buffer_service.core.experience import Content, decode_content
from buffer_service.errors import NotInstalledError
from buffer_service.storage.base import Moment
from buffer_service.storage.rows import Image

Format = Literal["arrow", "parquet"]
MEDIA_TYPES: Mapping[Format, str] = {
    "arrow": "application/vnd.apache.arrow.file",
    "parquet": "application/vnd.apache.parquet",
}
_BATCH_ROWS = 16_384
_BATCH_BYTES = 8 << 20
_REPETITIVE = ["question", "answer", "image_uri"]
"""Columns worth a dictionary in Parquet."""

_Record = tuple[bytes, Content]


def require_pyarrow() -> Any:  # noqa: ANN401 - pyarrow has no types
    """Return the package; raises NotInstalledError that says how to get it."""
    try:
        import pyarrow.ipc  # noqa: PLC0415 - optional, and large
        import pyarrow.parquet  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "pyarrow":
            raise
        raise NotInstalledError(
            "an export for analysis needs pyarrow: pip install 'experience-buffer[export]'"
        ) from None
    return pyarrow


def written(moment: Moment, kind: Format) -> Generator[bytes]:
    """Yield the file in parts, none empty; raises NotInstalledError and CorruptStoreError."""
    arrow = require_pyarrow()
    schema = _schema(arrow, moment)
    sink = _Sink()
    if kind == "arrow":
        writer = arrow.ipc.new_file(sink, schema)
    else:
        writer = arrow.parquet.ParquetWriter(sink, schema, compression="zstd", use_dictionary=_REPETITIVE)
    with writer:
        for batch in _batches(arrow, schema, moment):
            writer.write_batch(batch)
            if part := sink.take():
                yield part
    yield sink.take()


class _Sink(io.RawIOBase):
    """Takes what is written until it is fetched."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        """Return that it can be written to."""
        return True

    def tell(self) -> int:
        """Return how much was written."""
        return self._size

    def write(self, data: Any) -> int:  # noqa: ANN401 - any buffer, as pyarrow gives it
        """Take a copy."""
        self._parts.append(bytes(data))
        self._size += len(self._parts[-1])
        return len(self._parts[-1])

    def take(self) -> bytes:
        """Return what was written since the last time."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


def _schema(arrow: Any, moment: Moment) -> Any:  # noqa: ANN401 - pyarrow has no types
    numbers = {"confidence": arrow.float64(), "reward": arrow.float64(), "rewards": arrow.list_(arrow.float64())}
    texts = dict.fromkeys(("client_id", "question", "answer", "image_uri", "trajectory", "metadata"), arrow.string())
    counters = dict.fromkeys(("retrieval_count", "sample_count", "outcome_count", "success_count"), arrow.int64())
    fields = {
        "id": arrow.int64(),
        "sequence": arrow.int64(),
        "created_at": arrow.timestamp("us", tz="UTC"),
        **texts,
        **numbers,
        "priority": arrow.float64(),
        **counters,
        "success_rate": arrow.float64(),
        "vector": arrow.list_(arrow.float32(), moment.shape.dimension),
    }
    metadata = {"sequence": str(moment.image.header.sequence), "metric": moment.shape.metric}
    return arrow.schema(list(fields.items()), metadata=metadata)


def _batches(arrow: Any, schema: Any, moment: Moment) -> Iterator[Any]:  # noqa: ANN401 - pyarrow has no types
    start = size_bytes = 0
    records: list[_Record] = []
    for vector, payload in moment.records:
        records.append((vector, decode_content(payload)))
        size_bytes += len(vector) + len(payload)
        if len(records) >= _BATCH_ROWS or size_bytes >= _BATCH_BYTES:
            yield _batch(arrow, schema, moment.image, start, records)
            start, size_bytes, records = start + len(records), 0, []
    if records:
        yield _batch(arrow, schema, moment.image, start, records)


def _batch(arrow: Any, schema: Any, image: Image, start: int, records: list[_Record]) -> Any:  # noqa: ANN401
    rows = slice(start, start + len(records))
    contents = [content for _, content in records]
    values = {**_counted(image, rows), **_told(contents)}
    flat = arrow.array(np.frombuffer(b"".join(vector for vector, _ in records), "<f4"))
    values["vector"] = arrow.FixedSizeListArray.from_arrays(flat, type=schema.field("vector").type)
    values["client_id"] = [client for client, _ in image.names[rows]]
    arrays = [arrow.array(values[field.name], field.type, from_pandas=True) for field in schema]
    return arrow.record_batch(arrays, schema=schema)


def _counted(image: Image, rows: slice) -> dict[str, Any]:
    """Return what the table has, by column; NaN stands for none."""
    columns: dict[str, npt.NDArray[Any]] = {name: column[rows] for name, column in image.columns.items()}
    retrievals, successes = columns["search_retrievals"], columns["successes"]
    rate = np.where(retrievals > 0, np.minimum(1.0, successes / np.maximum(1, retrievals)), np.nan)
    return {
        "id": columns["ids"],
        "sequence": columns["version"],
        "created_at": np.round(columns["created_at"] * 1e6).astype("datetime64[us]"),
        "priority": columns["priority"],
        "retrieval_count": retrievals,
        "sample_count": columns["sample_retrievals"],
        "outcome_count": columns["outcomes"],
        "success_count": successes,
        "success_rate": rate,
    }


def _told(contents: list[Content]) -> dict[str, Any]:
    """Return what the experiences were given, by column."""
    as_they_are = ("question", "answer", "image_uri", "confidence", "rewards")
    columns: dict[str, Any] = {name: [getattr(content, name) for content in contents] for name in as_they_are}
    columns["reward"] = [
        math.fsum(content.rewards or ()) if content.reward is None else content.reward for content in contents
    ]
    columns["trajectory"] = [_json(content.trajectory) for content in contents]
    columns["metadata"] = [_json(content.metadata) for content in contents]
    return columns


def _json(value: object) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()

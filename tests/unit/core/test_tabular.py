"""Exports for analysis: what is in the files, that others read them, and that the moment holds while writes go on."""

from __future__ import annotations

import builtins
import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from buffer_service.core import Experience, ExperienceBuffer
from buffer_service.core.tabular import Format, written
from buffer_service.errors import NotInstalledError
from buffer_service.settings import (
    BufferSettings,
    EmbeddingSettings,
    IndexSettings,
    PersistenceSettings,
    RebuildSettings,
    Settings,
)
from tests.helpers.vectors import unit_vectors

CAPACITY = 100
VECTORS = unit_vectors(400, 8)
UNCHANGED_BY_READING = [
    "sequence",
    "client_id",
    "confidence",
    "question",
    "answer",
    "image_uri",
    "rewards",
    "priority",
    "outcome_count",
    "success_count",
]


@pytest.fixture(params=["file", "lmdb"])
def buffer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ExperienceBuffer]:
    """A buffer of a hundred, with outcomes and a removal, and with less and more of what an experience can have."""
    settings = Settings(
        buffer=BufferSettings(capacity=CAPACITY),
        embedding=EmbeddingSettings(dimension=8),
        index=IndexSettings(faiss_backend="cpu"),
        rebuild=RebuildSettings(mode="off"),
        persistence=PersistenceSettings(backend=request.param, map_size_bytes=2**26),
    )
    with ExperienceBuffer(tmp_path / "data", settings, clock=lambda: 1_700_000_000.5) as opened:
        opened.append([_experience(number) for number in range(50)])
        opened.search(VECTORS[:10], 1)
        opened.report_outcomes([(1, True), (2, False)])
        opened.remove(50)
        yield opened


def _experience(number: int) -> Experience:
    if number % 2:
        return Experience(confidence=0.25, visual=VECTORS[number].tobytes())
    return Experience(
        confidence=0.5,
        visual=VECTORS[number].tobytes(),
        client_id=f"c{number}",
        question="how many?",
        answer=str(number),
        image_uri="s3://bucket/1.png",
        trajectory=[{"step": number}, "done"],
        rewards=[0.5, number / 4],
        metadata={"label": number, "nested": {"ä": [1, None]}},
    )


def _file(buffer: ExperienceBuffer, folder: Path, kind: Format) -> Path:
    path = folder / f"content.{kind}"
    path.write_bytes(b"".join(written(buffer.moment(), kind)))
    return path


def _table(path: Path) -> pa.Table:
    if path.suffix == ".parquet":
        return pq.read_table(path)
    return pa.ipc.open_file(path).read_all()


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
def test_every_row_holds_what_the_buffer_answers(buffer: ExperienceBuffer, tmp_path: Path, kind: Format) -> None:
    """Typed columns; the schema names the sequence number."""
    table = _table(_file(buffer, tmp_path, kind))

    assert table.schema.metadata[b"sequence"] == str(buffer.serving.view.sequence).encode()
    assert table.schema.metadata[b"metric"] == b"cosine"
    assert table.schema.field("vector").type == pa.list_(pa.float32(), 8)
    assert table.schema.field("created_at").type == pa.timestamp("us", tz="UTC")
    rows = table.to_pylist()
    assert [row["id"] for row in rows] == list(range(1, 50))
    for row in rows:
        stored = buffer.get(row["id"])
        for name in UNCHANGED_BY_READING:
            assert row[name] == getattr(stored, name), name
        assert row["created_at"] == dt.datetime(2023, 11, 14, 22, 13, 20, 500_000, dt.UTC)
        assert row["reward"] == (0.5 + (row["id"] - 1) / 4 if stored.rewards else 0.0)
        assert _parsed(row["metadata"]) == stored.metadata
        assert _parsed(row["trajectory"]) == stored.trajectory
        np.testing.assert_array_equal(np.float32(row["vector"]), stored.vector)


def _parsed(text: str | None) -> Any:  # noqa: ANN401 - any JSON value
    return None if text is None else json.loads(text)


def test_rates_are_null_before_the_first_retrieval(buffer: ExperienceBuffer, tmp_path: Path) -> None:
    """And the share of retrievals after it."""
    buffer.writer.submit(lambda plan: plan.count_retrievals([(1, 4, 2)])).result()

    rows = {row["id"]: row for row in _table(_file(buffer, tmp_path, "parquet")).to_pylist()}

    assert (rows[1]["retrieval_count"] >= 4, rows[1]["sample_count"]) == (True, 2)
    assert rows[1]["success_rate"] == 1 / rows[1]["retrieval_count"]
    assert rows[40]["success_rate"] is None


def test_pandas_polars_and_duckdb_read_both_forms(buffer: ExperienceBuffer, tmp_path: Path) -> None:
    """The same mean of the same column, by whatever is at hand."""
    arrow, parquet = (_file(buffer, tmp_path, kind) for kind in ("arrow", "parquet"))
    expected = sum((0.5 + number / 4 if number % 2 == 0 else 0.0) for number in range(49)) / 49

    in_duckdb = {"arrow": duckdb.from_arrow(_table(arrow)), "parquet": duckdb.read_parquet(str(parquet))}
    means = {
        "pandas feather": pd.read_feather(arrow)["reward"].mean(),
        "pandas parquet": pd.read_parquet(parquet)["reward"].mean(),
        "polars ipc": pl.read_ipc(arrow)["reward"].mean(),
        "polars parquet": pl.scan_parquet(parquet).select("reward").collect()["reward"].mean(),
        "duckdb arrow": in_duckdb["arrow"].aggregate("avg(reward)").fetchall()[0][0],
        "duckdb parquet": in_duckdb["parquet"].aggregate("avg(reward)").fetchall()[0][0],
    }

    assert means == pytest.approx(dict.fromkeys(means, expected))
    eleventh = in_duckdb["parquet"].filter("id = 11")
    assert eleventh.project("metadata->>'label', vector[1]").fetchall() == [("10", float(VECTORS[10][0]))]


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
def test_the_export_is_of_one_moment_whatever_is_written_meanwhile(
    buffer: ExperienceBuffer, tmp_path: Path, kind: Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that was live then has been evicted before it is read, and is in the file nonetheless."""
    monkeypatch.setattr("buffer_service.core.tabular._BATCH_ROWS", 10)
    moment = buffer.moment()
    parts = written(moment, kind)
    first = next(parts)
    for start in range(100, 400, 50):
        buffer.append([_experience(number) for number in range(start, start + 50)])
    assert buffer.store.table.oldest_id() > 50

    path = tmp_path / f"content.{kind}"
    path.write_bytes(first + b"".join(parts))

    table = _table(path)
    assert table["id"].to_pylist() == list(range(1, 50))
    np.testing.assert_allclose(np.array(table["vector"].to_pylist(), np.float32), VECTORS[:49], atol=1e-6)


def test_an_empty_buffer_gives_a_file_with_the_columns(tmp_path: Path) -> None:
    """And no rows."""
    settings = Settings(embedding=EmbeddingSettings(dimension=8), rebuild=RebuildSettings(mode="off"))
    with ExperienceBuffer.open(tmp_path / "data", settings) as buffer:
        table = _table(_file(buffer, tmp_path, "parquet"))

    assert (table.num_rows, "vector" in table.column_names) == (0, True)


def test_without_pyarrow_the_message_says_what_to_install(
    buffer: ExperienceBuffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is read."""
    original = builtins.__import__

    def without(name: str, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - as the built-in
        if name.startswith("pyarrow"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return original(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)

    with pytest.raises(NotInstalledError, match=r"pip install 'experience-buffer\[export\]'"):
        next(written(buffer.moment(), "arrow"))

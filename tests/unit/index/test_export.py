"""The export: immutable chunks, only what changed, found damaged when it is damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from buffer_service.index.build import Rows
from buffer_service.index.errors import UnusableExportError
from buffer_service.index.export import Exporter, ExportManifest, ExportPoint, open_chunks, read_export
from buffer_service.index.metric import Ids
from tests.helpers.generations import export
from tests.helpers.vectors import Vectors, unit_vectors


def _rows(first: int, last: int) -> dict[int, Vectors]:
    vectors = unit_vectors(last, 4)
    return {experience: vectors[experience - 1] for experience in range(first, last + 1)}


def _content(folder: Path) -> dict[int, list[float]]:
    manifest = read_export(folder)
    chunks, live = open_chunks(folder, manifest)
    rows = Rows(chunks, live, manifest.dimension)
    return dict(zip(rows.ids.tolist(), (row.tolist() for row in rows.at(np.arange(rows.count))), strict=True))


def _expected(rows: dict[int, Vectors]) -> dict[int, list[float]]:
    return {experience: row.tolist() for experience, row in rows.items()}


def _chunk_files(manifest: ExportManifest) -> set[str]:
    return {name for chunk in manifest.chunks for name in chunk.files}


def test_an_export_holds_exactly_the_live_rows(tmp_path: Path) -> None:
    """What is read back is what was live, by id."""
    export(tmp_path, _rows(1, 50), watermark=50)

    assert _content(tmp_path) == _expected(_rows(1, 50))


def test_a_second_export_leaves_large_chunks_untouched(tmp_path: Path) -> None:
    """Only what is new is written: the cost of an export is that of the change."""
    first = export(tmp_path, _rows(1, 100), watermark=100)
    second = export(tmp_path, _rows(1, 110), watermark=110)

    assert _chunk_files(first) < _chunk_files(second)
    assert [chunk.rows for chunk in second.chunks] == [100, 10]
    assert _content(tmp_path) == _expected(_rows(1, 110))


def test_chunks_merge_so_that_their_number_stays_logarithmic(tmp_path: Path) -> None:
    """64 exports of 10 rows each leave at most seven chunks."""
    counts = [len(export(tmp_path, _rows(1, 10 * step), watermark=10 * step).chunks) for step in range(1, 65)]

    assert max(counts) <= 7
    assert _content(tmp_path) == _expected(_rows(1, 640))


def test_a_chunk_that_is_mostly_dead_is_written_anew(tmp_path: Path) -> None:
    """Disk use follows the live rows, not all rows that ever were."""
    export(tmp_path, _rows(1, 100), watermark=100)
    manifest = export(tmp_path, _rows(80, 110), watermark=200)

    assert sum(chunk.rows for chunk in manifest.chunks) == 31
    assert _content(tmp_path) == _expected(_rows(80, 110))


def test_an_export_without_change_writes_no_chunk(tmp_path: Path) -> None:
    """Exporting twice at one watermark gives the same chunks."""
    first = export(tmp_path, _rows(1, 30), watermark=30)
    second = export(tmp_path, _rows(1, 30), watermark=30)

    assert first.chunks == second.chunks


def test_files_of_the_export_before_stay_for_a_rebuild_that_reads_them(tmp_path: Path) -> None:
    """A rebuild that has read the manifest still finds its files after one more export."""
    first = export(tmp_path, _rows(1, 30), watermark=30)
    export(tmp_path, _rows(25, 60), watermark=90)

    chunks, _ = open_chunks(tmp_path, first)
    assert sum(len(ids) for ids, _ in chunks) == 30

    export(tmp_path, _rows(50, 99), watermark=150)
    with pytest.raises(UnusableExportError, match="cannot be read"):
        open_chunks(tmp_path, first)


def test_rows_that_leave_while_an_export_reads_are_not_in_it(tmp_path: Path) -> None:
    """The chunk holds what was found, and says how much that is."""
    rows = _rows(1, 1200)
    point = ExportPoint(1200, 1200, np.arange(1, 1201))

    def read(ids: Ids) -> tuple[Ids, Vectors]:
        there = ids[ids % 400 != 0]
        return there, np.stack([rows[int(experience)] for experience in there])

    manifest = Exporter(tmp_path, 4, "cosine").write(point, read)

    assert manifest.chunks[0].rows == 1197
    assert _content(tmp_path) == _expected({id_: row for id_, row in rows.items() if id_ % 400})


def test_an_empty_buffer_can_be_exported(tmp_path: Path) -> None:
    """No live row is a valid export."""
    export(tmp_path, {}, watermark=5, last_id=4)

    assert _content(tmp_path) == {}


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    """A chunk that changed on disk is refused by name, wherever the change is."""
    manifest = export(tmp_path, _rows(1, 20), watermark=20)
    for name in [*_chunk_files(manifest), manifest.live_file]:
        content = (tmp_path / name).read_bytes()
        for place in (0, len(content) // 2, len(content) - 1):
            (tmp_path / name).write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            with pytest.raises(UnusableExportError, match=name):
                open_chunks(tmp_path, manifest)
        (tmp_path / name).write_bytes(content)


def test_a_missing_export_says_what_to_do(tmp_path: Path) -> None:
    """The message names the call that makes an export."""
    with pytest.raises(UnusableExportError, match="/v1/admin/export"):
        read_export(tmp_path)


def test_a_damaged_manifest_leads_to_a_full_export(tmp_path: Path) -> None:
    """The exporter trusts no manifest that it cannot read; it starts over."""
    export(tmp_path, _rows(1, 30), watermark=30)
    (tmp_path / "manifest.json").write_bytes(b"{")

    export(tmp_path, _rows(1, 40), watermark=40)

    assert _content(tmp_path) == _expected(_rows(1, 40))

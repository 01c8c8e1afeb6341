"""Settings: defaults, file, environment, and errors that name what was meant."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from buffer_service.settings import InvalidSettingsError, known_settings, load_settings

CONFIGS = Path(__file__).parents[2] / "configs"


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File over defaults, environment over both."""
    (tmp_path / "x.yaml").write_text("buffer: {capacity: 5}\nembedding: {dimension: 7}\n")
    monkeypatch.setenv("XBUF_BUFFER__CAPACITY", "9")

    settings = load_settings(tmp_path / "x.yaml")

    assert (settings.buffer.capacity, settings.embedding.dimension, settings.embedding.metric) == (9, 7, "cosine")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("XBUF_BUFFER__CAPACTY", "XBUF_BUFFER__CAPACITY"),
        ("XBUF_INDEX__FAISS_PROBES", "XBUF_INDEX__FAISS_N_PROBES"),
        ("XBUF_SAMPLNG__ALPHA", "XBUF_SAMPLING__ALPHA"),
    ],
)
def test_an_unknown_variable_names_the_nearest_setting(
    monkeypatch: pytest.MonkeyPatch, name: str, nearest: str
) -> None:
    """A typing error is never ignored."""
    monkeypatch.setenv(name, "1")

    with pytest.raises(InvalidSettingsError, match=f"unknown setting {name}; did you mean {nearest}"):
        load_settings()


@pytest.mark.parametrize(
    "text", ["bufer: {}", "buffer: {capactiy: 1}", "buffer: 3", "[1]", "a: [", "buffer: {capacity: 0}"]
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str) -> None:
    """Unknown groups and fields, wrong shapes, values out of range."""
    (tmp_path / "x.yaml").write_text(text)

    with pytest.raises(InvalidSettingsError):
        load_settings(tmp_path / "x.yaml")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """It was asked for by name, so defaults in its place would surprise."""
    with pytest.raises(InvalidSettingsError, match="cannot be read"):
        load_settings(tmp_path / "none.yaml")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_the_configurations_that_are_shipped_load(path: Path) -> None:
    """Every file in configs/ is valid."""
    load_settings(path)


def test_the_local_configuration_spells_out_the_defaults() -> None:
    """configs/local.yaml documents the defaults, so it must be equal to them."""
    assert load_settings(CONFIGS / "local.yaml") == load_settings()


def test_the_page_on_settings_is_up_to_date() -> None:
    """docs/settings.md is what scripts/document-settings makes of the descriptions, and none is missing."""
    program = runpy.run_path(str(CONFIGS.parent / "scripts" / "document-settings"))
    page = (CONFIGS.parent / "docs" / "settings.md").read_text()
    names = [f"XBUF_{group}__{field}".upper() for group, fields in known_settings().items() for field in fields]

    assert page == program["document"]()
    assert [name for name in names if f"`{name}`" not in page] == []
    assert "|  |" not in page

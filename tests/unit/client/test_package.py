"""What the package promises as a whole: few dependencies, types, and PyTorch only for those who ask for it."""

from __future__ import annotations

import importlib
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest

import buffer_client

ROOT = Path(__file__).parents[3]


def test_the_client_imports_nothing_beyond_its_dependencies() -> None:
    """httpx, numpy and msgspec: an inference pod needs neither FAISS, nor LMDB, nor the service, nor PyTorch."""
    program = "import sys, buffer_client; print(*{name.partition('.')[0] for name in sys.modules})"
    forbidden = {"faiss", "lmdb", "torch", "pydantic", "fastapi", "uvicorn", "yaml", "kubernetes", "sklearn"}

    imported = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()

    assert {"httpx", "numpy", "msgspec", "buffer_client"} <= set(imported)
    assert forbidden & set(imported) == set()


def test_a_bare_installation_needs_three_packages() -> None:
    """All else is an extra."""
    needed = [line for line in requires("experience-buffer") or [] if "extra ==" not in line]

    assert sorted(line.partition(">=")[0] for line in needed) == ["httpx", "msgspec", "numpy"]


def test_the_package_says_that_it_is_typed() -> None:
    """Else type checkers ignore its annotations."""
    assert (Path(buffer_client.__file__).parent / "py.typed").exists()


def test_all_that_is_public_is_listed_in_order() -> None:
    """A name that is imported for users is in ``__all__``."""
    modules = {name for name, member in vars(buffer_client).items() if type(member).__name__ == "module"}
    public = {name for name in vars(buffer_client) if not name.startswith("_")} - modules - {"annotations"}

    assert public - set(buffer_client.__all__) == set()
    assert buffer_client.__all__ == sorted(buffer_client.__all__)


def test_without_pytorch_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of the extra, not of a missing module."""
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "buffer_client.torch", raising=False)

    with pytest.raises(ImportError, match=r"pip install 'experience-buffer\[torch\]'"):
        importlib.import_module("buffer_client.torch")


@pytest.mark.parametrize("kind", [buffer_client.BufferClient, buffer_client.BackgroundAppender])
def test_every_method_is_documented(kind: type) -> None:
    """On the page of the client."""
    page = (ROOT / "docs" / "client.md").read_text()
    methods = [name for name, member in vars(kind).items() if callable(member) and not name.startswith("_")]

    assert [name for name in methods if f"`{name}(" not in page and name != "close"] == []
    assert "close" in page


def test_every_function_and_class_is_documented() -> None:
    """On the page of the client, or on that of training."""
    pages = "".join((ROOT / "docs" / name).read_text() for name in ("client.md", "training.md"))

    assert [name for name in buffer_client.__all__ if name not in pages] == []

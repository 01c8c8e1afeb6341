"""The page in a real browser, against a real service."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from buffer_client import BufferClient, Experience
from tests.helpers.vectors import unit_vectors
from tests.integration.browser import Browser, running_browser
from tests.integration.running import running_service

DIMENSION = 8


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    """A browser with an empty profile."""
    with running_browser(tmp_path / "profile") as running:
        yield running


def fill(client: BufferClient, count: int) -> None:
    """Append experiences of which every second one was answered rightly."""
    client.append(
        [
            Experience(
                visual=vector,
                question=f"question {place}",
                answer="<b onclick=alert(1)>bold</b>",
                confidence=0.75,
                reward=1.0,
                metadata={"correct": place % 2 == 0},
            )
            for place, vector in enumerate(unit_vectors(count, DIMENSION), start=1)
        ]
    )


def test_the_page_shows_the_state_of_the_buffer(tmp_path: Path, browser: Browser) -> None:
    """Figures, the latest experiences, the accuracy, a switch of the index; all from this service and nowhere else."""
    with running_service(tmp_path / "data", rebuild__every_operations=30) as service:
        with BufferClient(service.url) as client:
            fill(client, 40)
        browser.open(f"{service.url}/")

        browser.wait_for("document.getElementById('generation').innerText === '1'")
        browser.wait_for("document.querySelectorAll('#latest tr').length === 10")

        assert browser.text("health") == "healthy"
        assert (browser.text("size"), browser.text("index-rows"), browser.text("delta")) == ("40", "40", "0")
        assert browser.text("capacity") == "of 100,000, oldest leaves first"
        assert browser.text("backend") == "CPU"
        assert "Generation 1" in browser.text("switches")
        assert browser.text("accuracy-now") == "50.0 % of the last 40"
        newest = browser.evaluate("document.querySelector('#latest tr').innerText")
        assert [part in newest for part in ("40", "question 40", "<b onclick=alert(1)>bold</b>", "75 %")] == [True] * 4
        loaded = browser.evaluate("performance.getEntriesByType('resource').map(entry => entry.name)")
        assert [name for name in loaded if not name.startswith(f"{service.url}/")] == []
        assert len(loaded) > 5
        assert browser.console_errors == []


def test_the_neighbours_of_an_experience_are_shown(tmp_path: Path, browser: Browser) -> None:
    """It is its own nearest; an id that does not exist is explained."""
    with running_service(tmp_path / "data") as service:
        with BufferClient(service.url) as client:
            fill(client, 12)
            nearest = client.search(client.get(5).vector, k=9).ids[0].tolist()
        browser.open(f"{service.url}/")
        browser.wait_for("document.body.dataset.state === 'healthy'")

        browser.fill_in("near-id", "5")
        browser.wait_for("document.querySelectorAll('#near li').length === 9")

        shown = browser.evaluate("[...document.querySelectorAll('#near b')].map(b => Number(b.innerText.slice(1)))")
        assert shown == nearest
        assert nearest[0] == 5
        browser.fill_in("near-id", "500")
        browser.wait_for("document.getElementById('near-note').innerText.includes('500')")
        assert browser.text("near") == ""


def test_an_empty_buffer_has_a_page_too(tmp_path: Path, browser: Browser) -> None:
    """Nothing is undefined, nothing is thrown."""
    with running_service(tmp_path / "data") as service:
        browser.open(f"{service.url}/")

        browser.wait_for("document.body.dataset.state === 'healthy'")
        browser.wait_for("document.getElementById('latest-note').innerText === 'The buffer is empty.'")

        assert (browser.text("size"), browser.text("generation")) == ("0", "none yet")
        text = browser.evaluate("document.body.innerText")
        assert [word for word in ("NaN", "undefined", "null", "Infinity") if word in text] == []
        assert browser.console_errors == []


def test_the_page_says_when_the_service_is_gone_and_when_it_is_back(tmp_path: Path, browser: Browser) -> None:
    """It keeps trying by itself."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with running_service(tmp_path / "data", port) as service:
        browser.open(f"{service.url}/")
        browser.wait_for("document.body.dataset.state === 'healthy'")
        service.kill()

    browser.wait_for("document.body.dataset.state === 'gone'")
    assert "has not answered since" in browser.text("gone")

    with running_service(tmp_path / "data", port):
        browser.wait_for("document.body.dataset.state === 'healthy'")
        assert browser.text("gone") == ""


def test_a_token_is_asked_for_and_kept_in_the_tab_only(tmp_path: Path, browser: Browser) -> None:
    """A wrong one is asked for again."""
    tokens = tmp_path / "tokens"
    tokens.mkdir()
    (tokens / "read").write_text("read-token")
    with running_service(tmp_path / "data", auth__tokens_dir=tokens) as service:
        browser.open(f"{service.url}/")
        browser.wait_for("!document.getElementById('token-form').hidden")
        assert browser.text("health") == "token needed"

        browser.fill_in("token", "wrong")
        browser.wait_for("sessionStorage.length === 1")
        assert browser.text("size") == "–"
        browser.fill_in("token", "read-token")

        browser.wait_for("document.body.dataset.state === 'healthy'")
        assert browser.text("size") == "0"
        assert browser.evaluate("document.getElementById('token-form').hidden") is True
        assert browser.evaluate("localStorage.length + document.cookie.length") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_either_scheme(tmp_path: Path, browser: Browser, scheme: str) -> None:
    """Contrast of text and of quiet text against both grounds is at least 4.5, as WCAG AA asks."""
    with running_service(tmp_path / "data") as service:
        browser.open(f"{service.url}/")
        browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        browser.wait_for("document.body.dataset.state === 'healthy'")

        contrasts = browser.evaluate(_CONTRASTS)

    assert len(contrasts) == 12
    assert {pair: value for pair, value in contrasts.items() if value < 4.5} == {}


_CONTRASTS = """
(() => {
  const style = getComputedStyle(document.documentElement);
  const context = document.createElement("canvas").getContext("2d");
  const luminance = (name) => {
    context.fillStyle = style.getPropertyValue(name);
    context.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...context.getImageData(0, 0, 1, 1).data].slice(0, 3)
      .map((value) => value / 255).map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const pairs = {};
  for (const front of ["--ink", "--quiet", "--accent", "--good", "--warn", "--bad"]) {
    for (const ground of ["--ground", "--card"]) {
      const [dark, light] = [luminance(front), luminance(ground)].sort((a, b) => a - b);
      pairs[`${front} on ${ground}`] = (light + 0.05) / (dark + 0.05);
    }
  }
  return pairs;
})()
"""

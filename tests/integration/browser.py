"""Debian's chromium without a window, driven over its debugging pipe: no driver program and no open port."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from tests.helpers.waiting import wait_until

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--window-size=1240,1400",
    "--remote-debugging-pipe",
)
_END = b"\0"
_CLOSE_TIMEOUT_S = 20.0


@dataclass(slots=True)
class Browser:
    """One tab. ``console_errors`` collects what the page complained of: exceptions, failed loads, refused policies."""

    commands: BinaryIO
    messages: BinaryIO
    session: str = ""
    console_errors: list[str] = field(default_factory=list)
    _last: int = 0

    def open(self, url: str) -> None:
        """Go to the address in a new tab, and wait until it is loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Runtime.enable")
        self.call("Log.enable")
        self.call("Page.enable")
        self.call("Page.navigate", url=url)
        while (event := self._receive()).get("method") != "Page.loadEventFired":
            self._note(event)

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Send one command of the DevTools protocol and return its result; events that come before it are looked at."""
        self._last += 1
        message: dict[str, object] = {"id": self._last, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        self.commands.write(json.dumps(message).encode() + _END)
        self.commands.flush()
        while True:
            answer = self._receive()
            if answer.get("id") == self._last:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def evaluate(self, expression: str) -> Any:  # noqa: ANN401 - whatever JSON the page has
        """Return the value of a JavaScript expression in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def text(self, element: str) -> str:
        """Return the text of the element with this id as it is seen; empty where it is hidden."""
        found = f"document.getElementById({json.dumps(element)})"
        return str(self.evaluate(f"{found}.checkVisibility() ? {found}.innerText : ''"))

    def wait_for(self, expression: str, timeout_s: float = 20.0) -> None:
        """Wait until a JavaScript expression is true."""
        wait_until(lambda: self.evaluate(expression), expression, timeout_s, interval_s=0.1)

    def fill_in(self, element: str, value: str) -> None:
        """Type into the field with this id and submit its form."""
        self.evaluate(
            f"(field => {{ field.value = {json.dumps(value)}; field.form.requestSubmit(); }})"
            f"(document.getElementById({json.dumps(element)}))"
        )

    def screenshot(self, path: Path) -> None:
        """Write what the tab shows, to its end, as PNG."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _receive(self) -> dict[str, Any]:
        parts = bytearray()
        while (byte := self.messages.read(1)) != _END:
            assert byte, "chromium has ended"
            parts += byte
        message: dict[str, Any] = json.loads(parts)
        return message

    def _note(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.console_errors.append(str(parameters["exceptionDetails"]))
        elif event.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.console_errors.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")


@contextmanager
def running_browser(profile: Path, *flags: str) -> Iterator[Browser]:
    """Run chromium with an empty profile; fails the test where it is not installed."""
    program = shutil.which("chromium")
    assert program, "chromium is missing: apt-get install chromium (make test does)"
    read_commands, write_commands = os.pipe()
    read_messages, write_messages = os.pipe()
    # The pipe's ends must be descriptors 3 and 4 of the browser, which only a shell can promise.
    shell = f'exec "$0" "$@" 3<&{read_commands} 4>&{write_messages}'
    process = subprocess.Popen(
        ["bash", "-c", shell, program, *_FLAGS, *flags, f"--user-data-dir={profile}"],
        pass_fds=(read_commands, write_messages),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(read_commands)
    os.close(write_messages)
    with process, os.fdopen(write_commands, "wb") as commands, os.fdopen(read_messages, "rb") as messages:
        try:
            browser = Browser(commands, messages)
            yield browser
            browser.session = ""
            browser.call("Browser.close")
            process.wait(_CLOSE_TIMEOUT_S)
        finally:
            process.kill()

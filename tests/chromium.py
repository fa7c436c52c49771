"""A headless Chromium that tests drive through the DevTools protocol; a page at a time."""

import base64
import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.processes import Lines

SECONDS = 60.0
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"),
    *("--no-first-run", "--disable-extensions", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--remote-debugging-port=0", "--window-size=1300,1200"),
)


def program() -> str:
    """Where Chromium is; it is never skipped that it is not there."""
    given = os.environ.get("MF_CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)
    if given is None:
        pytest.fail("there is no Chromium; install it (Debian: apt-get install chromium) or name it in MF_CHROMIUM")
    return given


class Chromium:
    """A browser with one page. Close it after use."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="mf-chromium-", ignore_cleanup_errors=True)
        self.process = subprocess.Popen(
            [program(), *FLAGS, f"--user-data-dir={self.folder.name}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.output = Lines(self.process.stderr)
        (line,) = self.output.wait_for("DevTools listening on")[:1]
        uri = re.findall(r"ws://\S+", line)[0]
        self.numbers = itertools.count(1)
        self.closing = contextlib.ExitStack()
        options: dict[str, Any] = {"open_timeout": SECONDS, "max_size": None, "ping_interval": None}
        self.devtools = self.closing.enter_context(connect(uri, **options))
        self.session: str | None = None
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def ask(self, method: str, **parameters: Any) -> Any:
        """Send a command and wait for its answer."""
        number = next(self.numbers)
        session = {} if self.session is None else {"sessionId": self.session}
        self.devtools.send(json.dumps({"id": number, "method": method, "params": parameters, **session}))
        deadline = time.monotonic() + SECONDS
        while True:
            answer = json.loads(self.devtools.recv(max(0.0, deadline - time.monotonic())))
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def open(self, uri: str) -> None:
        """Go to a page, which may still be loading afterwards."""
        self.ask("Page.navigate", url=uri)

    def run(self, expression: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        found = self.ask("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait_until(self, expression: str) -> Any:
        """Wait until an expression is true in the page; its value. It may throw while the page loads."""
        deadline = time.monotonic() + SECONDS
        guarded = f"let value = null; try {{ value = {expression}; }} catch (error) {{}}"
        look = f"new Promise((done) => {{ {guarded} setTimeout(() => done(value), value ? 0 : 50); }})"
        while True:
            found = self.ask("Runtime.evaluate", expression=look, awaitPromise=True, returnByValue=True)
            value = found["result"].get("value") if "exceptionDetails" not in found else None
            if value:
                return value
            assert time.monotonic() < deadline, f"waited in vain for {expression}; the page says:\n{self.text()}"

    def text(self) -> str:
        """What a person would read."""
        return str(self.run("document.body ? document.body.innerText : ''"))

    def picture(self, path: Path, *, dark: bool = False) -> None:
        """Take a screenshot."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.ask("Emulation.setDeviceMetricsOverride", width=1300, height=1200, deviceScaleFactor=1, mobile=False)
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        """End it, with all its processes."""
        self.closing.close()
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(SECONDS)
        self.output.thread.join(SECONDS)
        assert self.process.stderr is not None
        self.process.stderr.close()
        self.folder.cleanup()

"""A headless Chromium for tests, over the W3C WebDriver protocol and the standard library."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
DRIVERS = ("chromedriver", "chromium.chromedriver")


def missing() -> str:
    """Why there is no browser here; empty if there is one."""
    if not any(map(shutil.which, PROGRAMS)):
        return "chromium is not installed"
    if not any(map(shutil.which, DRIVERS)):
        return "chromedriver is not installed"
    return ""


class Browser:
    """One browser window."""

    def __init__(self, port: int, folder: Path) -> None:
        self._root = f"http://127.0.0.1:{port}"
        program = next(found for found in map(shutil.which, PROGRAMS) if found)
        options = {
            "binary": program,
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                     "--disable-dev-shm-usage", f"--user-data-dir={folder}"],
        }  # fmt: skip
        wanted = {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        answer = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._session = f"/session/{answer['sessionId']}"

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self._root + path, data, method=method)
        request.add_header("Content-Type", "application/json")
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            request, timeout=120
        ) as answer:
            return json.loads(answer.read())["value"]

    def open(self, path: Path) -> None:
        """Open a file."""
        self._ask("POST", self._session + "/url", {"url": path.absolute().as_uri()})

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns."""
        body = {"script": script, "args": list(arguments)}
        return self._ask("POST", self._session + "/execute/sync", body)

    def keys(self, text: str) -> None:
        """Press keys."""
        actions = [{"type": kind, "value": key} for key in text for kind in ("keyDown", "keyUp")]
        source = {"type": "key", "id": "keyboard", "actions": actions}
        self._ask("POST", self._session + "/actions", {"actions": [source]})

    def command(self, name: str, **parameters: Any) -> Any:
        """A command of the developer tools."""
        body = {"cmd": name, "params": parameters}
        return self._ask("POST", self._session + "/goog/cdp/execute", body)

    def size(self, width: int, height: int, *, phone: bool = False) -> None:
        """Size the page, also below the smallest window."""
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=height,
                     deviceScaleFactor=1, mobile=phone)  # fmt: skip

    def dark(self, on: bool) -> None:
        """Say what the user prefers."""
        value = "dark" if on else "light"
        feature = {"name": "prefers-color-scheme", "value": value}
        self.command("Emulation.setEmulatedMedia", features=[feature])

    def picture(self, path: Path) -> None:
        """Save what is seen."""
        path.write_bytes(base64.b64decode(self._ask("GET", self._session + "/screenshot")))

    def log(self, kind: str = "browser") -> list[Any]:
        """What has been logged since the last call."""
        found: list[Any] = self._ask("POST", self._session + "/se/log", {"type": kind})
        return found

    def until(self, script: str, seconds: float = 15) -> Any:
        """Wait until a script returns something true, and return that."""
        end = time.monotonic() + seconds
        while True:
            value = self.run(script)
            if value or time.monotonic() > end:
                assert value, f"never true: {script}"
                return value
            time.sleep(0.05)

    def close(self) -> None:
        """End the session."""
        with contextlib.suppress(OSError):
            self._ask("DELETE", self._session)


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A browser that ends with the block; `folder` holds its profile."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = next(found for found in map(shutil.which, DRIVERS) if found)
    process = subprocess.Popen(
        [program, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert time.monotonic() < end, "chromedriver does not answer"
            time.sleep(0.05)
        found = Browser(port, folder)
        try:
            yield found
        finally:
            found.close()
    finally:
        process.terminate()
        process.wait(10)

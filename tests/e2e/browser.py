"""A headless Chromium, driven over the wire of its driver (W3C WebDriver): open, click, type, read, screenshot."""

import base64
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
_ARGUMENTS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1000,1600"]

DRIVER = shutil.which("chromedriver")


class Browser:
    """One window. Elements are named by CSS selectors."""

    def __init__(self, port: int, profile: Path, *arguments: str) -> None:
        self._port = port
        options = {"args": [*_ARGUMENTS, f"--user-data-dir={profile}", *arguments]}
        capabilities = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        answer = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self._path = f"/session/{answer['sessionId']}"

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=60)
        connection.request(method, path, None if body is None else json.dumps(body))
        value = json.loads(connection.getresponse().read())["value"]
        connection.close()
        assert not (isinstance(value, dict) and "error" in value), value
        return value

    def open(self, url: str) -> None:
        self._ask("POST", f"{self._path}/url", {"url": url})

    def _elements(self, selector: str) -> list[str]:
        found = self._ask("POST", f"{self._path}/elements", {"using": "css selector", "value": selector})
        return [element[_ELEMENT] for element in found]

    def texts(self, selector: str) -> list[str]:
        """Return the visible text of each element."""
        return [self._ask("GET", f"{self._path}/element/{element}/text") for element in self._elements(selector)]

    def text(self, selector: str) -> str:
        return " ".join(self.texts(selector))

    def click(self, selector: str, place: int = 0) -> None:
        self._ask("POST", f"{self._path}/element/{self._elements(selector)[place]}/click", {})

    def write(self, selector: str, text: str) -> None:
        self._ask("POST", f"{self._path}/element/{self._elements(selector)[0]}/value", {"text": text})

    def value_of(self, script: str) -> Any:
        """Return what a script in the page returns."""
        return self._ask("POST", f"{self._path}/execute/sync", {"script": script, "args": []})

    def console(self) -> list[str]:
        """Return what the page complained of since the last call."""
        return [entry["message"] for entry in self._ask("POST", f"{self._path}/se/log", {"type": "browser"})]

    def screenshot(self, name: str) -> None:
        """Keep a picture of the window in the folder that ECHO_SCREENSHOTS names, if it names one."""
        folder = os.environ.get("ECHO_SCREENSHOTS")
        if folder:
            picture = base64.b64decode(self._ask("GET", f"{self._path}/screenshot"))
            Path(folder).mkdir(parents=True, exist_ok=True)
            (Path(folder) / f"{name}.png").write_bytes(picture)

    def close(self) -> None:
        self._ask("DELETE", self._path)


@contextmanager
def browser(profile: Path, *arguments: str) -> Iterator[Browser]:
    """Run a driver with one window until the block ends."""
    assert DRIVER is not None
    with subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as driver:
        assert driver.stdout is not None
        try:
            port = next(int(found[1]) for line in driver.stdout if (found := re.search(r"on port (\d+)\.", line)))
            threading.Thread(target=driver.stdout.read, daemon=True).start()
            window = Browser(port, profile, *arguments)
            try:
                yield window
            finally:
                window.close()
        finally:
            driver.terminate()

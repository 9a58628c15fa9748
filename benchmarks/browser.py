"""A browser without a window, driven over the DevTools protocol: opens pages, runs scripts, takes
pictures."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tornado.websocket import WebSocketClientConnection, websocket_connect

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)


def chromium() -> str | None:
    """Where the browser is, if it is installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Tab:
    """One page of a browser.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
    socket : of the page's debugger.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: WebSocketClientConnection) -> None:
        self.loop, self.socket, self.n_calls = loop, socket, 0

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """What a method of the protocol answers."""
        self.n_calls += 1
        message = json.dumps({"id": self.n_calls, "method": method, "params": parameters})

        async def ask() -> dict[str, Any]:
            await self.socket.write_message(message)
            while True:
                text = await self.socket.read_message()
                if text is None:
                    raise ConnectionError("the browser closed")
                answer = json.loads(text)
                if answer.get("id") == self.n_calls:
                    if "error" in answer:
                        raise RuntimeError(f"{method}: {answer['error']}")
                    return answer["result"]

        return self.loop.run_until_complete(asyncio.wait_for(ask(), 60))

    def run(self, script: str) -> Any:
        """The value of an expression of JavaScript."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{script}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def until(self, script: str, seconds: float = 60) -> Any:
        """The value of an expression as soon as it is true.

        Raises
        ------
        TimeoutError : it was not, within so many seconds.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = self.run(script)
            if found:
                return found
            time.sleep(0.1)
        raise TimeoutError(f"{script}: not within {seconds} s, last {found!r}")

    def picture(self, path: Path) -> None:
        """What the page looks like, as PNG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def opened(url: str, width: int = 1500, height: int = 960) -> Iterator[Tab]:
    """A browser that looks at a page; it ends with the context."""
    binary = chromium()
    if binary is None:
        raise FileNotFoundError("chromium: expected it to be installed, found none")
    with tempfile.TemporaryDirectory(prefix="daskgd-browser-", ignore_cleanup_errors=True) as folder:
        flags = [*FLAGS, f"--user-data-dir={folder}", f"--window-size={width},{height}"]
        process = subprocess.Popen([binary, *flags, "about:blank"], stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        rest = threading.Thread(target=process.stderr.read)  # else the pipe fills, and the browser waits
        loop = asyncio.new_event_loop()
        try:
            listening = next(line for line in process.stderr if "DevTools listening on" in line)
            rest.start()
            host = urlsplit(listening.split()[-1]).netloc
            with urllib.request.urlopen(f"http://{host}/json") as answer:
                pages = [page for page in json.load(answer) if page["type"] == "page"]

            async def connect() -> WebSocketClientConnection:
                return await websocket_connect(pages[0]["webSocketDebuggerUrl"], max_message_size=1 << 28)

            async def disconnect() -> None:
                tab.socket.close()
                while await tab.socket.read_message() is not None:
                    pass

            tab = Tab(loop, loop.run_until_complete(connect()))
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
            tab.call("Emulation.setDeviceMetricsOverride", **size)
            tab.call("Page.navigate", url=url)
            yield tab
            loop.run_until_complete(asyncio.wait_for(disconnect(), 10))
        finally:
            process.terminate()
            process.wait(10)
            if rest.is_alive():
                rest.join(10)
            process.stderr.close()
            loop.close()

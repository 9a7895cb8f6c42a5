"""A headless Chromium driven by its DevTools protocol over websockets: load, evaluate, wait, look."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-default-apps", "--mute-audio"),
    *("--disable-extensions", "--disable-dev-shm-usage", "--remote-debugging-port=0", "--remote-allow-origins=*"),
    # Nothing but loopback is reached, whatever a browser would like to ask.
    *("--proxy-server=127.0.0.1:9", "--proxy-bypass-list=<-loopback>;127.0.0.1;localhost"),
)
START_S = 60.0


class Tab:
    """One page. `complaints` are the texts of its console's errors and of uncaught exceptions."""

    def __init__(self, socket: ClientConnection) -> None:
        self.complaints: list[str] = []
        self._socket = socket
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loaded = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for text in self._socket:
            message = json.loads(text)
            if (waiting := self._waiting.pop(message.get("id"), None)) and not waiting.done():
                waiting.set_result(message)
            elif message.get("method") == "Page.loadEventFired":
                self._loaded.set()
            elif message.get("method") == "Runtime.exceptionThrown":
                self.complaints.append(str(message["params"]["exceptionDetails"]))
            elif message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
                self.complaints.append(message["params"]["entry"]["text"])

    async def end(self) -> None:
        self._reader.cancel()
        await asyncio.wait([self._reader])

    async def tell(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._ids)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        async with asyncio.timeout(30):
            answer = await self._waiting[number]
        assert "error" not in answer, answer
        return dict(answer["result"])

    async def open(self, url: str) -> None:
        await self.tell("Page.enable")
        await self.tell("Runtime.enable")
        await self.tell("Log.enable")
        self._loaded.clear()
        await self.tell("Page.navigate", url=url)
        await self._load()

    async def reload(self) -> None:
        self._loaded.clear()
        await self.tell("Page.reload")
        await self._load()

    async def _load(self) -> None:
        async with asyncio.timeout(60):
            await self._loaded.wait()

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        said = await self.tell("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    async def until(self, expression: str, within_s: float = 30.0) -> Any:
        """The value of an expression once it is truthy."""
        value = None
        try:
            async with asyncio.timeout(within_s):
                while not (value := await self.evaluate(expression)):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            shown = await self.evaluate("document.body.innerText")
            raise AssertionError(f"{expression} did not become true; the page: {shown}") from None
        return value

    async def look(self, file: Path, width: int = 1440, height: int = 900, dark: bool = False) -> None:
        """A picture of what is seen."""
        await self.tell(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 700
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.tell("Emulation.setEmulatedMedia", features=[scheme])
        await asyncio.sleep(0.5)
        said = await self.tell("Page.captureScreenshot", format="png")
        file.write_bytes(base64.b64decode(said["data"]))


@asynccontextmanager
async def browsing(folder: Path) -> AsyncIterator[Tab]:
    """A browser with an empty profile below `folder` and one tab in it; ended with all its processes."""
    assert CHROMIUM is not None
    profile = folder / "profile"
    environment = {**os.environ, "HOME": str(folder)}
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    null = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        *command, stdout=null, stderr=null, env=environment, start_new_session=True
    )
    try:
        async with asyncio.timeout(START_S):
            while not (told := profile / "DevToolsActivePort").exists() or len(told.read_text().split()) < 2:
                assert process.returncode is None, f"{CHROMIUM} ended with {process.returncode}"
                await asyncio.sleep(0.05)
        port, path = told.read_text().split()
        async with connect(f"ws://127.0.0.1:{port}{path}", proxy=None) as browser:
            await browser.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
            targets = json.loads(await browser.recv())["result"]["targetInfos"]
            page = next(target["targetId"] for target in targets if target["type"] == "page")
            url = f"ws://127.0.0.1:{port}/devtools/page/{page}"
            async with connect(url, max_size=1 << 26, proxy=None) as socket:
                tab = Tab(socket)
                try:
                    yield tab
                finally:
                    await tab.end()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()

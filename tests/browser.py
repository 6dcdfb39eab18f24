"""Headless Chromium, driven as a reader would: one process for all tests, by its own debugging protocol."""

import asyncio
import json
import shutil
import subprocess
import threading
import time
import urllib.request

import aiohttp
import pytest

CHROMIUM = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0"]  # fmt: skip
SECONDS = 120


class Browser:
    """A running Chromium; `open` gives tabs."""

    def __init__(self, profile):
        profile.mkdir(parents=True, exist_ok=True)
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port = profile / "DevToolsActivePort"
        deadline = time.monotonic() + SECONDS
        while not (port.is_file() and port.read_text().strip()):
            assert time.monotonic() < deadline, "chromium did not start"
            time.sleep(0.1)
        self._address = f"http://127.0.0.1:{port.read_text().splitlines()[0]}"
        self._loop, self._tabs = asyncio.new_event_loop(), []
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def open(self, url, *, width=1280, dark=False):
        """A tab of this width that has loaded a page."""
        request = urllib.request.Request(f"{self._address}/json/new?about:blank", method="PUT")
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            socket = json.load(answer)["webSocketDebuggerUrl"]
        tab = Tab(self._loop, socket)
        self._tabs.append(tab)
        tab.call("Page.enable"), tab.call("Runtime.enable"), tab.call("Log.enable")
        tab.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        tab.call("Emulation.setEmulatedMedia", features=[scheme])
        tab.call("Page.navigate", url=url)
        tab.wait("document.readyState === 'complete'")
        return tab

    def close(self):
        for tab in self._tabs:
            tab.close()
        self._process.terminate()
        self._process.wait(timeout=SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)


class Tab:
    """A page that can be asked and clicked; `problems` are its errors and what it logged."""

    def __init__(self, loop, socket):
        self._loop, self._number, self._answers, self.problems = loop, 0, {}, []
        self._run(self._connect(socket))

    def _run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(SECONDS)

    async def _connect(self, socket):
        self._session = aiohttp.ClientSession()
        self._socket = await self._session.ws_connect(socket, max_msg_size=0)
        self._reader = asyncio.ensure_future(self._read())

    async def _read(self):
        async for message in self._socket:
            said = json.loads(message.data)
            if "id" in said:
                self._answers[said["id"]].set_result(said)
            elif said["method"] in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
                self.problems.append(json.dumps(said["params"]))

    async def _call(self, method, values):
        self._number += 1
        answer = self._answers[self._number] = self._loop.create_future()
        await self._socket.send_str(json.dumps({"id": self._number, "method": method, "params": values}))
        said = await answer
        assert "error" not in said, said
        return said["result"]

    def close(self):
        """End the connection."""
        self._run(self._session.close())

    def call(self, method, **values):
        """One command of the protocol."""
        return self._run(self._call(method, values))

    def ask(self, script):
        """The value of a JavaScript expression, which may be a promise."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, script):
        """Wait until an expression is true, and return its value."""
        deadline = time.monotonic() + SECONDS
        while not (value := self.ask(script)):
            assert time.monotonic() < deadline, f"never true: {script}"
            time.sleep(0.05)
        return value

    def click(self, selector):
        """Click the first element of a selector."""
        self.ask(f"document.querySelector({json.dumps(selector)}).click()")

    def words(self, selector="body"):
        """The visible text of an element."""
        return self.ask(f"document.querySelector({json.dumps(selector)}).innerText")

    def cut_off(self):
        """What reaches beyond the right edge of the page: nothing may, except lists of links that scroll."""
        return self.ask(
            "[...document.querySelectorAll('main *, header *')].filter(e => e.getBoundingClientRect().right > "
            "document.documentElement.clientWidth + 1 && !e.closest('nav')).map(e => e.outerHTML.slice(0, 80))"
        )

    def pdf(self):
        """The page as it would be printed."""
        return self.call("Page.printToPDF")["data"]

"""The annotator's server, in this process or in one of its own, and its page in Chromium, used as a person uses it."""

from __future__ import annotations

import base64
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ldmseg.data.scenes import generate_scene

TOKEN = "a-token-of-this-test"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = ["--no-sandbox", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
PATIENCE = 600_000
"""Milliseconds that a page may take on a machine that does other things, too."""
BASE64 = """(cells) => {
  const bytes = new Uint8Array(cells.buffer, cells.byteOffset, cells.byteLength);
  let text = "";
  for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
  return btoa(text);
}"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def make_scenes(folder: Path, count: int = 3) -> Path:
    """Photos of 320x240."""
    folder.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(generate_scene(number, 320).image[:240]).save(folder / f"scene{number}.png")
    return folder


class Process:
    """`ldmseg annotate` in a process of its own, which can be killed. `options` may hold a token and a port."""

    def __init__(self, photos: Path, project: Path, model: Path | str, *options: str) -> None:
        self.project = project
        self.command = [sys.executable, "-m", "ldmseg", "annotate", str(photos), "-o", str(project), "--model", str(model), "--no-browser"]
        self.command += options
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        assert self.process.stderr is not None
        said = []
        for line in self.process.stderr:
            said.append(line)
            if line.startswith("open "):
                self.address = line.removeprefix("open ").strip()
            if line.startswith("Ctrl-C"):
                return
        raise AssertionError("".join(said))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> str:
        """End it as Ctrl-C does; what it said meanwhile."""
        self.process.send_signal(signal.SIGINT)
        assert self.process.stderr is not None
        said = self.process.stderr.read()
        self.process.wait()
        return said


@contextmanager
def process(*arguments: Any) -> Iterator[Process]:
    server = Process(*arguments)
    try:
        yield server
        said = server.stop()
        assert "Traceback" not in said, said
    finally:
        with suppress(ProcessLookupError):
            server.kill()


class Complaints(logging.Handler):
    """What the server's loggers had to say of failures."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(self.format(record))


class Served:
    """The same server in a thread of this process, which spares the seconds in which a process imports torch."""

    def __init__(self, photos: Path, project: Path, model: Path | str, labels: Path | None = None, steps: int = 4) -> None:
        from ldmseg.annotate.run import Settings
        from ldmseg.pipeline import LDMSegPipeline

        def load() -> LDMSegPipeline:
            pipe = LDMSegPipeline.from_pretrained(model)
            pipe.set_progress_bar_config(disable=True)
            return pipe

        self.project, self._load = project, load
        self._settings = Settings([photos], project, TOKEN, labels, port=free_port(), steps=steps)
        self.start()

    def start(self) -> None:
        from ldmseg.annotate.run import make_server

        answers = threading.Event()
        self.server, listening = make_server(self._settings, self._load, lambda address: (setattr(self, "address", address), answers.set()))
        self.thread = threading.Thread(target=self.server.run, args=([listening],), daemon=True)
        self.thread.start()
        assert answers.wait(PATIENCE / 1000)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(PATIENCE / 1000)
        assert not self.thread.is_alive()


@contextmanager
def served(*arguments: Any, **options: Any) -> Iterator[Served]:
    complaints = Complaints()
    for name in ("ldmseg", "uvicorn"):
        logging.getLogger(name).addHandler(complaints)
    server = Served(*arguments, **options)
    try:
        yield server
    finally:
        server.stop()
        for name in ("ldmseg", "uvicorn"):
            logging.getLogger(name).removeHandler(complaints)
    assert not complaints.said, complaints.said


class Window:
    """A page of the annotator."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 900, "height": 560}, **options})
        self.context.set_default_timeout(PATIENCE)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.foreign: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._console)
        origin = address.split("/?")[0]
        self.page.on("request", lambda r: None if r.url.startswith((origin, "blob:", "data:")) else self.foreign.append(r.url))
        self.page.goto(address)
        self.ready()

    def _console(self, message: Any) -> None:
        if message.type == "error" and "ERR_" not in message.text and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)

    def ready(self) -> None:
        self.page.wait_for_selector("body[data-ready=yes]")
        self.settled()

    def settled(self) -> None:
        """Nothing is on its way, the model has answered, and the panels are drawn."""
        self.page.wait_for_function(
            "() => { const { waiting, sending, behind, told, cells } = ldmseg.editor;"
            " return cells && !waiting && !sending && !behind && told && !told.awaits && !ldmseg.asked"
            " && document.body.dataset.waiting === '0'; }"
        )

    def run(self, code: str, *arguments: Any) -> Any:
        return self.page.evaluate(code, *arguments)

    def cells(self) -> np.ndarray:
        """The map as the page has it."""
        width, height, data = self.run(f"() => [ldmseg.editor.told.width, ldmseg.editor.told.height, ({BASE64})(ldmseg.editor.cells)]")
        return np.frombuffer(base64.b64decode(data), dtype="<u2").reshape(height, width)

    def server_cells(self) -> np.ndarray:
        """The map as the server has it."""
        data = self.run(
            "async () => { const b = await (await fetch(`/api/photos/${ldmseg.editor.key}/map`)).arrayBuffer();"
            f" return ({BASE64})(new Uint16Array(b, 4 + new DataView(b).getUint32(0, true))); }}"
        )
        return np.frombuffer(base64.b64decode(data), dtype="<u2").reshape(self.cells().shape)

    def same(self) -> np.ndarray:
        """The map, which page and server agree on."""
        cells = self.cells()
        assert np.array_equal(cells, self.server_cells())
        assert self.page.get_attribute("body", "data-mismatches") == "0"
        return cells

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a pixel of the map is on the screen."""
        spot = self.run("([x, y]) => ldmseg.view.toScreen(x, y)", [x, y])
        box = self.page.locator("#canvas").bounding_box()
        return box["x"] + spot["x"], box["y"] + spot["y"]

    def drag(self, *points: Sequence[float], settle: bool = True) -> None:
        self.page.mouse.move(*self.at(*points[0]))
        self.page.mouse.down()
        for point in points[1:]:
            self.page.mouse.move(*self.at(*point), steps=4)
        self.page.mouse.up()
        if settle:
            self.settled()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)
        self.settled()

    def press_while(self, button: str, key: str, most: int = 20) -> int:
        """Press a key while a button that does the same is enabled; how often."""
        for times in range(most):
            if self.page.is_disabled(button):
                return times
            self.press(key)
        raise AssertionError(f"{key} is still possible after {most} times")

    def chosen(self) -> list[int]:
        return self.run("() => ldmseg.editor.chosen")

    def message(self) -> str:
        return self.page.inner_text(".message")

    def close(self) -> None:
        assert not self.complaints, self.complaints
        assert not self.foreign, self.foreign
        self.context.close()


@contextmanager
def window(chromium: Any, server: Process | Served, **options: Any) -> Iterator[Window]:
    one = Window(chromium, server.address, **options)
    yield one
    one.close()

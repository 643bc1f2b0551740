"""A project of generated photos behind the guarded server, with a tiny model, inside the test's own process."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ldmseg.data.scenes import generate_scene

pytest.importorskip("fastapi", reason="the extra `annotate` is not installed")

from starlette.testclient import TestClient
from tiny import build_tiny

from ldmseg.annotate.engine import Engine
from ldmseg.annotate.events import Events
from ldmseg.annotate.photos import find_photos
from ldmseg.annotate.project import Project
from ldmseg.annotate.security import Guard
from ldmseg.annotate.server import Services, create_app

TOKEN = "a-token-of-this-test"
ADDRESS = "http://127.0.0.1:8000"


def make_photos(folder: Path, count: int = 3, size: int = 64) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(generate_scene(number, size).image[:, : size - 8]).save(folder / f"photo{number}.png")
    return folder


@dataclass(frozen=True)
class Site:
    """What a test talks to: `client` has the cookie, `keys` are the photos'."""

    client: TestClient
    services: Services

    @property
    def keys(self) -> list[str]:
        return list(self.services.project.photos)

    def map(self, key: str) -> tuple[dict[str, Any], np.ndarray]:
        """What is told of a map, and its cells."""
        data = self.client.get(f"/api/photos/{key}/map").content  # inflated by the client
        length = int.from_bytes(data[:4], "little")

        told = json.loads(data[4 : 4 + length])
        return told, np.frombuffer(data[4 + length :], dtype="<u2").reshape(told["height"], told["width"])

    def post(self, key: str, operation: Any, revision: int | None = None, **headers: str) -> Any:
        shown = self.map(key)[0]["revision"] if revision is None else revision
        return self.client.post(f"/api/photos/{key}/operations", json=operation, headers={"If-Match": f'"{shown}"', **headers})

    def opened(self, key: str) -> None:
        """Open a photo and wait for its proposal."""
        assert self.client.post(f"/api/photos/{key}/open").status_code == 200
        self.until(lambda: not self.services.project.session(key).awaits)

    @staticmethod
    def until(condition: Callable[[], bool]) -> None:
        """Wait for another thread; a test that waits for ever has failed."""
        for _ in range(6000):
            if condition():
                return
            time.sleep(0.01)
        raise AssertionError("nothing came of it")


@contextmanager
def site(photos: Path, folder: Path, **options: Any) -> Iterator[Site]:
    project = Project(folder, find_photos([photos]), **options)
    events = Events()
    engine = Engine(build_tiny, project, lambda key, stage: events.tell("stage", photo=key, stage=stage), steps=2)
    services = Services(project, engine, events)
    with TestClient(Guard(create_app(services), TOKEN), base_url=ADDRESS, headers={"Origin": ADDRESS}) as client:
        assert client.get(f"/?token={TOKEN}").status_code == 200
        yield Site(client, services)

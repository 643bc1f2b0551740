"""Starting the annotator: a project, a model, a server on this machine."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from ldmseg.annotate.classes import read_classes
from ldmseg.annotate.engine import Engine
from ldmseg.annotate.events import Events
from ldmseg.annotate.photos import find_photos
from ldmseg.annotate.project import Project
from ldmseg.annotate.security import LOOPBACK, Guard
from ldmseg.annotate.server import Services, create_app
from ldmseg.errors import InputError

LOCAL = "127.0.0.1"


@dataclass(frozen=True)
class Settings:
    """What a server is started with.

    Attributes:
        photos: files and folders.
        folder: of the project.
        labels: a file of classes; partial: a folder of label PNGs.
        host, port: where it listens; port 0 takes a free one.
        token: the secret of the address.
        steps, seed, threads: see `Engine`.
    """

    photos: Sequence[Path]
    folder: Path
    token: str
    labels: Path | None = None
    partial: Path | None = None
    host: str = LOCAL
    port: int = 0
    steps: int = 8
    seed: int = 0
    threads: int = 1


def serve(settings: Settings, load: Callable[[], Any], ready: Callable[[str], None]) -> None:
    """Serve until Ctrl-C; `ready` is told the address to open, once it answers. The project's folder is to be held (`ldmseg.locking`).

    Raises:
        InputError: photos, classes or partial maps cannot be read, or nothing can listen there.
    """
    classes = () if settings.labels is None else read_classes(settings.labels)
    project = Project(settings.folder, find_photos(settings.photos), classes, settings.partial)
    events = Events()

    def told(key: str, stage: str) -> None:
        revision = project.session(key).revision if key else None
        events.tell("stage", photo=key, stage=stage, revision=revision)

    engine = Engine(load, project, told, settings.steps, settings.seed, settings.threads)
    listening = _listen(settings.host, settings.port)
    port = listening.getsockname()[1]
    hosts = LOOPBACK if settings.host in ("localhost", LOCAL, "::1") else (*LOOPBACK, settings.host.lower())
    app = Guard(create_app(Services(project, engine, events)), settings.token, hosts)
    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=2, ws="none")
    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    _Server(config, lambda: ready(f"http://{shown}:{port}/?token={settings.token}"), events).run([listening])


class _Server(uvicorn.Server):
    """uvicorn's, which tells when it answers, and ends open streams before it waits for them."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], events: Events) -> None:
        super().__init__(config)
        self._ready, self._events = ready, events

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._events.close()
        await super().shutdown(sockets)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise InputError(f"--host, --port: cannot listen at {host}:{port}: {error.strerror or error}") from error
    return listening

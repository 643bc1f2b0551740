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
from ldmseg.annotate.security import COOKIE, LOOPBACK, Address, Guard
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
        host, port: where it listens; port 0 takes the project's last one, or a free one.
        token: the secret of the address; None takes the project's last one, or a new one.
        steps, seed, threads: see `Engine`.
    """

    photos: Sequence[Path]
    folder: Path
    token: str | None = None
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
    server, listening = make_server(settings, load, ready)
    server.run([listening])


def make_server(settings: Settings, load: Callable[[], Any], ready: Callable[[str], None]) -> tuple[uvicorn.Server, socket.socket]:
    """The server of `serve`, and the socket that it is to run on."""
    classes = () if settings.labels is None else read_classes(settings.labels)
    project = Project(settings.folder, find_photos(settings.photos), classes, settings.partial)
    events = Events()

    def told(key: str, stage: str) -> None:
        revision = project.session(key).revision if key else None
        events.tell("stage", photo=key, stage=stage, revision=revision)

    engine = Engine(load, project, told, settings.steps, settings.seed, settings.threads)
    listening, token = _address(settings)
    port = listening.getsockname()[1]
    hosts = LOOPBACK if settings.host in ("localhost", LOCAL, "::1") else (*LOOPBACK, settings.host.lower())
    app = Guard(create_app(Services(project, engine, events)), token, hosts, cookie=f"{COOKIE}-{port}")
    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=2, ws="none")
    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    return _Server(config, lambda: ready(f"http://{shown}:{port}/?token={token}"), events), listening


def _address(settings: Settings) -> tuple[socket.socket, str]:
    """Where it listens, and the secret: the project's last ones, so that a page that is still open finds the server again."""
    last = Address.of(settings.folder)
    token = last.token if settings.token is None else settings.token
    try:
        listening = _listen(settings.host, settings.port or last.port)
    except InputError:
        if settings.port or not last.port:
            raise
        listening = _listen(settings.host, 0)  # another program has the last one by now
    Address(listening.getsockname()[1], last.token).store(settings.folder)  # a secret that was chosen is for its chooser to keep
    return listening, token


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

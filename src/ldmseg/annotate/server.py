"""The application that the browser talks to: photos, maps, operations and news, behind `ldmseg.annotate.security`."""

from __future__ import annotations

import json
import logging
import threading
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool

from ldmseg.annotate.cells import MAX_ID, checksum
from ldmseg.annotate.classes import parse_classes
from ldmseg.annotate.engine import Engine
from ldmseg.annotate.events import Events
from ldmseg.annotate.operations import fresh_ids, read_operation
from ldmseg.annotate.photos import THUMBNAIL, as_jpeg
from ldmseg.annotate.project import NoPhotoError, Project
from ldmseg.annotate.security import TooLargeError
from ldmseg.annotate.session import PhotoSession, StaleError
from ldmseg.errors import InputError, quoted
from ldmseg.palette import PALETTE

logger = logging.getLogger(__name__)

STATIC = files("ldmseg.annotate") / "static"
SAVE_EVERY = 1.0
"""Seconds after which changes are written into the data set; the journal has them at once."""


@dataclass(frozen=True)
class Services:
    """What the routes use."""

    project: Project
    engine: Engine
    events: Events


def create_app(services: Services) -> FastAPI:
    """The application, without its guard; the engine and the saving run while it runs."""

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        stop = threading.Event()
        saver = threading.Thread(target=_save, args=(services, stop), name="ldmseg-saver", daemon=True)
        services.engine.start()
        saver.start()
        yield
        services.events.close()
        stop.set()
        await run_in_threadpool(saver.join)
        await run_in_threadpool(services.engine.stop)
        await run_in_threadpool(services.project.save_all)

    app = FastAPI(title="ldmseg annotate", docs_url=None, redoc_url=None, openapi_url=None, lifespan=running)
    app.state.services = services
    for failure, handler in ((InputError, _bad), (StaleError, _stale), (NoPhotoError, _missing), (TooLargeError, _too_large)):
        app.add_exception_handler(failure, handler)  # type: ignore[arg-type]  # starlette's type knows Exception only
    app.get("/")(_page)
    app.get("/api/project")(_project)
    app.get("/api/events")(_events)
    app.put("/api/classes")(_set_classes)
    app.get("/api/photos/{key}/image")(_image)
    app.get("/api/photos/{key}/thumbnail")(_thumbnail)
    app.get("/api/photos/{key}/map")(_map)
    app.get("/api/photos/{key}/confidence")(_confidence)
    app.post("/api/photos/{key}/open")(_open)
    app.post("/api/photos/{key}/operations")(_operate)
    app.put("/api/photos/{key}/finished")(_finish)
    app.mount("/static", StaticFiles(directory=str(STATIC), follow_symlink=False))
    return app


def _save(services: Services, stop: threading.Event) -> None:
    """Write what has changed, until the end."""
    try:
        services.project.recover()
    except InputError as error:
        logger.warning("%s", error)
    while not stop.wait(SAVE_EVERY):
        for key in services.project.unsaved():
            try:
                services.project.save(key)
                services.events.tell("saved", photo=key, entry=_entry(services, key))
            except InputError as error:
                services.events.tell("problem", message=str(error))


# ------------------------------------------------------------------------------------------------------------------------- errors
async def _bad(_: Request, error: InputError) -> Response:
    return JSONResponse({"error": str(error)}, 400)


async def _stale(request: Request, _: StaleError) -> Response:
    session = _services(request).project.session(request.path_params["key"])
    return JSONResponse({"error": "the map was changed elsewhere"}, 412, {"ETag": _tag(session.revision)})


async def _too_large(_: Request, error: TooLargeError) -> Response:
    return JSONResponse({"error": str(error)}, 413, {"Connection": "close"})


async def _missing(_: Request, __: NoPhotoError) -> Response:
    return JSONResponse({"error": "there is no such photo"}, 404)


# ------------------------------------------------------------------------------------------------------------------------- routes
async def _page() -> Response:
    return FileResponse(str(STATIC / "index.html"), headers={"Cache-Control": "no-store"})


async def _project(request: Request) -> Response:
    services = _services(request)
    project = services.project
    photos = [_entry(services, key) for key in project.photos]
    classes = [_plain_class(c) for c in project.classes]
    return _json({"name": project.folder.name, "photos": photos, "classes": classes, "palette": PALETTE, "stage": services.engine.stage})


async def _events(request: Request) -> Response:
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_services(request).events.listen(), media_type="text/event-stream", headers=headers)


async def _set_classes(request: Request) -> Response:
    services = _services(request)
    classes = parse_classes(await _body(request))
    await run_in_threadpool(services.project.set_classes, classes)
    services.events.tell("classes", classes=[_plain_class(c) for c in classes])
    return _json({"classes": [_plain_class(c) for c in classes]})


def _image(request: Request, key: str) -> Response:
    return Response(_picture(_services(request).project, key, None), media_type="image/jpeg", headers={"Cache-Control": "no-store"})


def _thumbnail(request: Request, key: str) -> Response:
    data = _picture(_services(request).project, key, THUMBNAIL)
    return Response(data, media_type="image/jpeg", headers={"Cache-Control": "max-age=3600"})


@lru_cache(maxsize=256)
def _picture(project: Project, key: str, longest: int | None) -> bytes:
    return as_jpeg(project.photo(key).read(), longest)


def _map(request: Request, key: str) -> Response:
    """A map in one piece: the bytes of a JSON, its length before it as 4 bytes, then 2 bytes a pixel, low byte first."""
    session = _services(request).project.session(key)
    with session.lock:
        head = json.dumps(_told(session)).encode()
        cells = session.state.cells
    head += b" " * (-len(head) % 4)  # so that the pixels begin at an even place
    data = len(head).to_bytes(4, "little") + head + np.ascontiguousarray(cells, dtype="<u2").tobytes()
    headers = {"Content-Encoding": "deflate", "Cache-Control": "no-store", "ETag": _tag(session.revision)}
    return Response(zlib.compress(data, level=1), media_type="application/octet-stream", headers=headers)


def _confidence(request: Request, key: str) -> Response:
    """A byte a pixel, 255 is certain; 204 where it is not known."""
    values = _services(request).project.session(key).confidence()
    if values is None:
        return Response(status_code=204)
    data = zlib.compress(np.rint(values * 255).astype(np.uint8).tobytes(), level=1)
    return Response(data, media_type="application/octet-stream", headers={"Content-Encoding": "deflate", "Cache-Control": "no-store"})


async def _open(request: Request, key: str) -> Response:
    services = _services(request)
    session = await run_in_threadpool(services.project.session, key)
    services.engine.ask(key)
    return _json(_told(session))


async def _operate(request: Request, key: str) -> Response:
    services = _services(request)
    shown, values = _shown(request), await _body(request)
    told = await run_in_threadpool(_operated, services, key, values, shown)
    services.events.tell("changed", photo=key, revision=told["revision"], by=request.headers.get("x-page", "")[:40])
    return _json(told, {"ETag": _tag(told["revision"])})


def _operated(services: Services, key: str, values: Any, shown: int) -> dict[str, Any]:
    session = services.project.session(key)
    kind = values.get("kind") if isinstance(values, dict) else None
    moves: dict[str, Callable[[int], None]] = {"undo": session.undo, "redo": session.redo, "propose": session.propose}
    with session.lock:
        if isinstance(kind, str) and kind in moves:
            moves[kind](shown)
        else:
            session.act(read_operation(values, session.state.shape), shown)
        told = _told(session)
    if session.awaits:
        services.engine.ask(key)
    return told


async def _finish(request: Request, key: str) -> Response:
    services = _services(request)
    finished = await _body(request)
    if not isinstance(finished, bool):
        raise InputError(f"finished: expected true or false, got {quoted(finished)}")
    await run_in_threadpool(services.project.set_finished, key, finished)
    entry = _entry(services, key)
    services.events.tell("saved", photo=key, entry=entry)
    return _json(entry)


# -------------------------------------------------------------------------------------------------------------------------- parts
def _services(request: Request) -> Services:
    return request.app.state.services


def _json(value: Any, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse(value, headers={"Cache-Control": "no-store", **(headers or {})})


async def _body(request: Request) -> Any:
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise InputError("body: expected JSON") from error


def _tag(revision: int) -> str:
    return f'"{revision}"'


def _shown(request: Request) -> int:
    """The revision that the page shows."""
    tag = request.headers.get("if-match", "").strip('"')
    if not tag.isascii() or not tag.isdigit() or len(tag) > 15:
        raise InputError("If-Match: expected the ETag of the map that is shown")
    return int(tag)


def _told(session: PhotoSession) -> dict[str, Any]:
    """All of a state but its pixels."""
    with session.lock:
        state = session.state
        labels = {str(i): [label.category, label.color % len(PALETTE)] for i, label in state.labels.items()}
        height, width = state.shape
        history = session.history
        return {
            "revision": session.revision,
            "height": height,
            "width": width,
            "checksum": checksum(state.cells),
            "labels": labels,
            "next": fresh_ids(state, 1)[0] if len(labels) < MAX_ID else None,
            "undo": history.last_actor,
            "redo": history.can_redo,
            "awaits": session.awaits,
            "shares": asdict(session.shares()),
        }


def _entry(services: Services, key: str) -> dict[str, Any]:
    photo, entry = services.project.photo(key), services.project.entries[key]
    size = None if photo.shape is None else [photo.shape[1], photo.shape[0]]
    return {"key": key, "name": photo.path.name, "size": size, "problem": photo.problem, **asdict(entry)}


def _plain_class(category: Any) -> dict[str, Any]:
    return {"id": category.id, "name": category.name, "isthing": category.isthing, "color": list(category.color or (200, 200, 200))}

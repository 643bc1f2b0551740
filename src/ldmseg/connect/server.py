"""A small server for Label Studio's four routes, on Python's own `http.server`; it answers `/health` while the model computes."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ldmseg.connect.label_studio import MODEL_VERSION, LabelStudioBackend
from ldmseg.errors import InputError

logger = logging.getLogger(__name__)

LARGEST = 64 * 2**20
"""Bytes of a request; tasks come with all their drafts and masks."""

SECONDS = 30.0
"""For a request to arrive."""

LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]"})


def make_server(
    backend: LabelStudioBackend, host: str = "127.0.0.1", port: int = 9090, names: frozenset[str] = frozenset()
) -> ThreadingHTTPServer:
    """A server that `serve_forever` runs; port 0 takes a free one.

    Args:
        names: further names under which it may be asked. A request for another host than `host`, this machine or these is refused, because
            a page in a browser could send one (DNS rebinding).

    Raises:
        InputError: it cannot listen there.
    """
    allowed = LOCAL | {host} | names
    handler = type("Handler", (_Handler,), {"backend": backend, "allowed": allowed})
    try:
        return _Server((host, port), handler)
    except (OSError, OverflowError) as error:
        raise InputError(f"--host, --port: cannot listen on {host}:{port}: {error}") from error


class _Server(ThreadingHTTPServer):
    daemon_threads = True


class _Refused(Exception):
    """A status and a reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    backend: LabelStudioBackend
    allowed: frozenset[str]
    timeout = SECONDS
    disable_nagle_algorithm = True  # headers and body are two writes; the second would wait 40 ms for the first to be acknowledged
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "ldmseg", ""

    def do_GET(self) -> None:
        self._answer({"/": _health, "/health": _health, "/versions": lambda: {"versions": [MODEL_VERSION]}})

    def do_POST(self) -> None:
        # What `/setup` sends holds a user's token in clear: it is not read, kept or logged.
        self._answer(
            {
                "/setup": lambda: {"model_version": MODEL_VERSION},
                "/predict": lambda: self.backend.predict(self._document()),
                "/webhook": dict,
            }
        )

    def _answer(self, routes: dict[str, Callable[[], dict[str, Any]]]) -> None:
        self._left = self._length()
        try:
            status, answer = 200, self._routed(routes)
        except _Refused as refused:
            status, answer = refused.status, {"detail": str(refused)}
        except InputError as error:
            status, answer = 400, {"detail": str(error)}
        except Exception:
            logger.exception("a request failed")
            status, answer = 500, {"detail": "the model failed; the server's log says why"}
        self._drain()
        body = json.dumps(answer).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(body)
        except OSError:  # who asked has gone
            self.close_connection = True

    def _routed(self, routes: dict[str, Callable[[], dict[str, Any]]]) -> dict[str, Any]:
        host = self.headers.get("Host", "")
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if name.lower() not in self.allowed:
            raise _Refused(403, "this host name is not allowed; --allow-host allows more")
        if self.headers.get("Origin") is not None:  # Label Studio's own requests have none, a browser's do
            raise _Refused(403, "requests of browsers are refused")
        route = routes.get(self.path.partition("?")[0].rstrip("/") or "/")
        if route is None:
            raise _Refused(404, "no such route")
        return route()

    def _length(self) -> int:
        text = self.headers.get("Content-Length", "0")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else -1

    def _document(self) -> Any:
        if self._left < 0 or self.headers.get("Transfer-Encoding"):
            raise _Refused(411, "expected a Content-Length")
        if self._left > LARGEST:
            raise _Refused(413, f"expected at most {LARGEST // 2**20} MiB")
        data, self._left = self.rfile.read(self._left), 0
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise _Refused(400, "expected JSON") from error

    def _drain(self) -> None:
        """Read what is left of a body, which would be taken for the next request."""
        if 0 < self._left <= LARGEST:
            left = self._left
            while left > 0 and (part := self.rfile.read(min(left, 2**16))):
                left -= len(part)
        elif self._left or self.headers.get("Transfer-Encoding"):
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        logger.info("%s %s", self.address_string(), format % args)


def _health() -> dict[str, Any]:
    return {"status": "UP", "model_class": "ldmseg"}

"""Who may talk to the server, and what a page of it may do: checked before anything of the application runs."""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from ldmseg.atomic import atomic_write

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "ldmseg"
"""Begins the cookie's name. The port ends it, since a browser sends the cookies of all ports of a machine to each."""
ADDRESS = ".address.json"
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
BODY = 8 << 20
"""Bytes of a request's body."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
)


class TooLargeError(Exception):
    """A body of more bytes than are read; the application answers it with 413."""


@dataclass(frozen=True)
class Address:
    """Where a project is served: a project that is served again keeps both, so that pages that are open go on.

    Attributes:
        port: 0 where any will do.
        token: the secret in the address.
    """

    port: int
    token: str

    @classmethod
    def of(cls, folder: Path) -> Self:
        """The last one of a project, or a new secret."""
        try:
            stored = json.loads((folder / ADDRESS).read_text(encoding="utf-8"))
            port, token = stored["port"], stored["token"]
        except (OSError, ValueError, TypeError, KeyError):
            port, token = 0, ""
        if not (isinstance(port, int) and 0 <= port < 2**16 and isinstance(token, str) and len(token) >= 16 and token.isascii()):
            return cls(0, secrets.token_urlsafe(24))
        return cls(port, token)

    def store(self, folder: Path) -> None:
        """Keep it in the project, for its owner's eyes alone."""
        with atomic_write(folder / ADDRESS) as temporary:
            temporary.chmod(0o600)
            temporary.write_text(json.dumps({"port": self.port, "token": self.token}), encoding="utf-8")


@dataclass(frozen=True)
class Guard:
    """ASGI middleware: only hosts that are named, only people with the token, writes only from the server's own pages.

    The page is opened once with `?token=..`, which sets a cookie and is taken out of the address. The `Host` is checked on every request,
    reading ones too, because a foreign name can be made to lead to this machine (DNS rebinding), and its pages would then be of one origin
    with the server.

    Args:
        app: what is guarded.
        token: the secret.
        hosts: allowed names of the `Host` header, without a port.
        body: bytes of a request's body at most.
        cookie: its name.
    """

    app: App
    token: str
    hosts: tuple[str, ...] = LOOPBACK
    body: int = BODY
    cookie: str = COOKIE

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return  # there are no web sockets
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refused = self._refused(scope, headers)
        if refused is not None:
            await _answer(send, *refused)
            return
        offered = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[0]
        if scope["path"] == "/" and offered:
            await self._enter(send, offered)
            return
        if not self._known(headers.get("cookie", "")):
            await _answer(send, 403, "open the address that `ldmseg annotate` printed: this one lacks its token")
            return
        await self._pass_on(scope, receive, send)

    def _refused(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        host = headers.get("host", "")
        name = host if host.endswith("]") else host.rsplit(":", 1)[0] if ":" in host else host
        if name.lower() not in self.hosts:
            return 403, "this server answers under its own name only"
        if scope["method"] not in ("GET", "HEAD"):
            origin = headers.get("origin")
            if origin is None or urlsplit(origin).netloc.lower() != host.lower():
                return 403, "changes are accepted from the server's own pages only"
            if headers.get("sec-fetch-site", "same-origin") != "same-origin":
                return 403, "changes are accepted from the server's own pages only"
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit() or len(length) > 12:
            return 400, "content-length: expected a number"
        if int(length) > self.body:
            return 413, f"expected a body of at most {self.body} bytes"
        return None

    def _known(self, cookies: str) -> bool:
        values = [value for name, _, value in (part.strip().partition("=") for part in cookies.split(";")) if name == self.cookie]
        return any(hmac.compare_digest(value.encode(), self.token.encode()) for value in values)

    async def _enter(self, send: Send, offered: str) -> None:
        if not hmac.compare_digest(offered.encode(), self.token.encode()):
            await _answer(send, 403, "this token is not the one that `ldmseg annotate` printed")
            return
        cookie = f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict"
        await send(
            {
                "type": "http.response.start",
                "status": 303,
                "headers": [(b"location", b"/"), (b"set-cookie", cookie.encode()), (b"cache-control", b"no-store"), *HEADERS],
            }
        )
        await send({"type": "http.response.body", "body": b""})

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        read = 0

        async def counted() -> MutableMapping[str, Any]:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.body:
                raise TooLargeError(f"expected a body of at most {self.body} bytes")
            return message

        async def with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *HEADERS]
            await send(message)

        await self.app(scope, counted, with_headers)


async def _answer(send: Send, status: int, reason: str) -> None:
    body = json.dumps({"error": reason}).encode()
    length = str(len(body)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", length), (b"cache-control", b"no-store"), *HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

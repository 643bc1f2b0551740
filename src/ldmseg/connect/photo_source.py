"""Photos that a request names, read from places that the person who runs the server chose, and from nowhere else."""

from __future__ import annotations

import base64
import binascii
import threading
import urllib.error
import urllib.request
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urljoin, urlsplit

import numpy as np
from numpy.typing import NDArray

from ldmseg.errors import InputError, quoted, shortened
from ldmseg.formats.image import one_line, read_image
from ldmseg.formats.inside import path_inside

LARGEST = 64 * 2**20
"""Bytes of a photo's file."""

KEPT = 8
"""Photos that are kept decoded: strokes on a photo come one after another."""

SECONDS = 30.0


@dataclass
class PhotoSource:
    """Reads photos by their addresses in Label Studio's tasks.

    Args:
        origin: `http://host:port` of Label Studio; addresses that begin with `/`, or with it, are fetched from there.
        token: of an account there, sent to `origin` alone.
        folder: what Label Studio serves as local files (`/data/local-files/?d=NAME`); read directly.
    """

    origin: str | None = None
    token: str | None = None
    folder: Path | None = None
    _kept: OrderedDict[str, NDArray[np.uint8]] = field(default_factory=OrderedDict, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.origin is not None:
            parts = urlsplit(self.origin)
            if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/") or parts.query:
                raise InputError(f"--url: expected http://HOST:PORT of Label Studio, got {quoted(self.origin)}")
            self.origin = f"{parts.scheme}://{parts.netloc}"

    def read(self, address: str) -> NDArray[np.uint8]:
        """(H, W, 3) photo.

        Raises:
            InputError: the address leads elsewhere, nothing is there, or it is no photo.
        """
        with self._lock:
            if address in self._kept:
                self._kept.move_to_end(address)
                return self._kept[address]
        photo = np.asarray(self._decoded(address))
        with self._lock:
            self._kept[address] = photo
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return photo

    def _decoded(self, address: str) -> Any:
        if address.startswith("data:"):
            return read_image(_inline(address))
        parts = urlsplit(address)
        local = parse_qs(parts.query).get("d", [""])[0] if parts.path.rstrip("/").endswith("/data/local-files") else ""
        if local and self.folder is not None:
            return read_image(path_inside(self.folder, unquote(local), "image"))
        if self.origin is None:
            raise InputError(f"image: expected --url, the address of Label Studio, to read {quoted(shortened(address))}")
        full = urljoin(f"{self.origin}/", address)
        if not full.startswith(f"{self.origin}/"):
            raise InputError(f"image: expected an address of {self.origin}, got {quoted(shortened(address))}")
        return read_image(self._fetched(full))

    def _fetched(self, url: str) -> bytes:
        request = urllib.request.Request(url, headers={"Authorization": f"Token {self.token}"} if self.token else {})
        try:
            with _OPENER.open(request, timeout=SECONDS) as answer:
                data = answer.read(LARGEST + 1)
        except (OSError, ValueError, urllib.error.URLError) as error:
            raise InputError(f"image: cannot fetch {quoted(shortened(url))}: {shortened(one_line(error))}") from error
        if len(data) > LARGEST:
            raise InputError(f"image: expected at most {LARGEST // 2**20} MiB, got more from {quoted(shortened(url))}")
        return data


def _inline(address: str) -> bytes:
    head, _, text = address.partition(",")
    if not head.endswith(";base64") or len(text) > LARGEST:
        raise InputError(f"image: expected a picture in base64, got {quoted(shortened(address))}")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise InputError(f"image: expected a picture in base64, got {quoted(shortened(address))}") from error


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect could lead to another host, with the token."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))

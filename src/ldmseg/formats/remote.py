"""Photos and videos from the web, for who asks for them: nothing else in the package opens an address."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.error import URLError
from urllib.parse import unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from PIL import Image

from ldmseg.atomic import write_bytes
from ldmseg.errors import InputError, quoted, shortened
from ldmseg.formats.image import one_line, read_image
from ldmseg.formats.video import is_video

LARGEST = 100_000_000
"""Bytes of a download."""

SECONDS = 30.0
"""How long a server may keep silent."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def is_address(text: str) -> bool:
    """Whether a text is an address (`https://..`, `ftp://..`) and no path."""
    return _SCHEME.match(text) is not None


def fetch_image(url: str) -> Image.Image:
    """The photo at an https address, as `read_image` reads a file.

    Raises:
        InputError: the address, or one that it leads to, is not https; it cannot be reached; what lies there is no picture or larger than
            100 MB.
    """
    return read_image(_download(url))


def fetch_file(url: str, folder: Path) -> Path:
    """Save what lies at an https address in `folder`, under the last name of the address; the path is returned.

    `https://example.org/a/cat.jpg?size=2` is saved as `cat.jpg`, an address without a name as `photo`.

    Raises:
        InputError: as `fetch_image`, where the name is not a video's; or a file of that name is in the folder.
    """
    path = folder / file_name(url)
    if path.exists():
        raise InputError(f"images: two addresses end with '{path.name}', so that both would be written alike; run them apart")
    data = _download(url)
    if not is_video(path):
        try:
            read_image(data)
        except InputError as error:
            raise InputError(f"url: {quoted(url)}: {error}") from error
    return write_bytes(path, data)


def file_name(url: str) -> str:
    """The last name in an address's path, without what a file name cannot hold; `photo` where there is none."""
    last = unquote(urlsplit(url).path.rstrip("/").rpartition("/")[2])
    return re.sub(r"[\x00-\x1f/\\:*?\"<>|]+", "_", last).lstrip(".")[-100:] or "photo"


def _download(url: str) -> bytes:
    _check(url)
    try:
        with build_opener(_HttpsOnly).open(Request(url, headers={"User-Agent": "ldmseg"}), timeout=SECONDS) as answer:
            data = answer.read(LARGEST + 1)
    except (URLError, OSError, ValueError) as error:
        if isinstance(error, InputError):  # an address that this one leads to
            raise
        raise InputError(f"url: cannot fetch {quoted(url)}: {shortened(one_line(error), 200)}") from error
    if len(data) > LARGEST:
        raise InputError(f"url: expected at most {LARGEST:,} bytes at {quoted(url)}, got more")
    return data


def _check(url: str) -> None:
    if urlsplit(url).scheme != "https":
        raise InputError(f"url: expected an address that begins with https://, got {quoted(url)}")


class _HttpsOnly(HTTPRedirectHandler):
    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        _check(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)

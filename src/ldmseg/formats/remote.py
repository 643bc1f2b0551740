"""A photo from the web, for who asks for it: nothing else in the package opens an address."""

from __future__ import annotations

from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from PIL import Image

from ldmseg.errors import InputError, quoted, shortened
from ldmseg.formats.image import one_line, read_image

LARGEST = 100_000_000
"""Bytes of a download."""

SECONDS = 30.0
"""How long a server may keep silent."""


def fetch_image(url: str) -> Image.Image:
    """The photo at an https address, as `read_image` reads a file.

    Raises:
        InputError: the address, or one that it leads to, is not https; it cannot be reached; what lies there is no picture or larger than
            100 MB.
    """
    _check(url)
    try:
        with build_opener(_HttpsOnly).open(Request(url, headers={"User-Agent": "ldmseg"}), timeout=SECONDS) as answer:
            data = answer.read(LARGEST + 1)
    except (URLError, OSError, ValueError) as error:
        raise InputError(f"url: cannot fetch {quoted(url)}: {shortened(one_line(error), 200)}") from error
    if len(data) > LARGEST:
        raise InputError(f"url: expected at most {LARGEST} bytes at {quoted(url)}, got more")
    return read_image(data)


def _check(url: str) -> None:
    if urlsplit(url).scheme != "https":
        raise InputError(f"url: expected an address that begins with https://, got {quoted(url)}")


class _HttpsOnly(HTTPRedirectHandler):
    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        _check(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)

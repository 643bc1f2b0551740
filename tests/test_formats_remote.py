"""A photo from the web; no test opens an address."""

from __future__ import annotations

from io import BytesIO
from urllib.error import URLError
from urllib.request import OpenerDirector, Request

import pytest
from PIL import Image

from ldmseg.errors import InputError
from ldmseg.formats import remote
from ldmseg.formats.remote import fetch_image


def answering(monkeypatch: pytest.MonkeyPatch, data: bytes | Exception) -> None:
    def opened(self: OpenerDirector, request: Request, timeout: float) -> BytesIO:
        if isinstance(data, Exception):
            raise data
        return BytesIO(data)

    monkeypatch.setattr(OpenerDirector, "open", opened)


def test_a_picture_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    file = BytesIO()
    Image.new("RGB", (5, 4), "red").save(file, format="PNG")
    answering(monkeypatch, file.getvalue())
    picture = fetch_image("https://example.org/a.png")
    assert picture.size == (5, 4) and picture.getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("url", ["http://example.org/a.png", "file:///etc/passwd", "photo.jpg", "ftp://example.org/a.png"])
def test_only_https_is_opened(url: str) -> None:
    with pytest.raises(InputError, match="url: expected an address that begins with https://"):
        fetch_image(url)


def test_a_redirect_stays_https() -> None:
    with pytest.raises(InputError, match="url: expected"):
        remote._HttpsOnly().redirect_request(Request("https://example.org"), None, 302, "", {}, "http://example.org/a.png")


def test_what_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, URLError("no such host"))
    with pytest.raises(InputError, match=r"url: cannot fetch .*no such host"):
        fetch_image("https://example.org/a.png")
    answering(monkeypatch, b"<html>")
    with pytest.raises(InputError, match="no picture"):
        fetch_image("https://example.org/a.png")
    monkeypatch.setattr(remote, "LARGEST", 3)
    with pytest.raises(InputError, match="expected at most 3 bytes"):
        fetch_image("https://example.org/a.png")

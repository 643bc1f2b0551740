"""A photo from the web; no test opens an address outside this machine."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from urllib.error import URLError
from urllib.request import OpenerDirector, Request

import pytest
from https_server import serving
from PIL import Image

from ldmseg.errors import InputError
from ldmseg.formats import remote
from ldmseg.formats.remote import fetch_file, fetch_image, file_name, is_address


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


def test_a_server_is_asked_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = tmp_path / "shown"
    shown.mkdir()
    Image.new("RGB", (6, 5), "blue").save(shown / "a cat.png")
    (shown / "clip.mp4").write_bytes(b"not looked into")
    (shown / "text.png").write_text("no picture")
    with serving(shown, tmp_path, monkeypatch) as address:
        assert fetch_image(f"{address}/a%20cat.png").size == (6, 5)
        saved = fetch_file(f"{address}/a%20cat.png?size=2", tmp_path)
        assert saved == tmp_path / "a cat.png" and saved.read_bytes() == (shown / "a cat.png").read_bytes()
        assert fetch_file(f"{address}/clip.mp4", tmp_path).read_bytes() == b"not looked into"
        with pytest.raises(InputError, match=r"url: 'https://.*text\.png': image: cannot read"):
            fetch_file(f"{address}/text.png", tmp_path)
        with pytest.raises(InputError, match=r"cannot fetch .*404"):
            fetch_file(f"{address}/missing.png", tmp_path)
        with pytest.raises(InputError, match=r"two addresses end with 'a cat\.png'"):
            fetch_file(f"{address}/a%20cat.png", tmp_path)
        monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(InputError, match=r"cannot fetch .*(?i:certificate)"):
            fetch_image(f"{address}/a%20cat.png")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://example.org/a/cat.jpg?size=2#x", "cat.jpg"),
        ("https://example.org/", "photo"),
        ("https://example.org", "photo"),
        ("https://example.org/a/..%2F..%2Fetc%2Fpasswd", "_.._etc_passwd"),
        ("https://example.org/.hidden", "hidden"),
        ("https://example.org/%00", "_"),
    ],
)
def test_the_name_of_what_is_fetched_stays_in_its_folder(url: str, name: str) -> None:
    assert file_name(url) == name


def test_what_is_an_address() -> None:
    assert all(map(is_address, ("https://a.org/b.png", "HTTP://a.org", "ftp://a")))
    assert not any(map(is_address, ("photo.jpg", "a/b.png", "C://photos", "/a://b", "")))

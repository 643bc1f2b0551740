from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import data_trees
import pytest

from ldmseg.connect import photo_source
from ldmseg.connect.photo_source import PhotoSource
from ldmseg.errors import InputError


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """A server with one photo, and what it was asked for with which token."""
    data = data_trees.photo(tmp_path / "a.png", 4, 6).read_bytes()
    asked: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers.get("Authorization")))
            if self.path == "/moved":
                self.send_response(302)
                self.send_header("Location", "/data/upload/a.png")
            else:
                self.send_response(200 if self.path.startswith("/data/") else 404)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()
        thread.join()


@pytest.mark.slow
def test_photos_of_label_studio_are_fetched_once_with_its_token(origin: tuple[str, list[tuple[str, str | None]]]) -> None:
    url, asked = origin
    source = PhotoSource(f"{url}/", "abc")
    for address in ("/data/upload/a.png", f"{url}/data/upload/a.png", "/data/upload/a.png"):
        assert source.read(address).shape == (4, 6, 3)
    assert asked == [("/data/upload/a.png", "Token abc")] * 2
    for number in range(photo_source.KEPT + 1):
        source.read(f"/data/{number}")
    source.read("/data/upload/a.png")
    assert len(asked) == photo_source.KEPT + 4  # it was forgotten in between


@pytest.mark.slow
@pytest.mark.parametrize(
    "address", ["http://169.254.169.254/latest", "https://elsewhere/a.png", "//elsewhere/a.png", "file:///etc/passwd", "s3://bucket/a.png"]
)
def test_no_other_place_is_asked(origin: tuple[str, list[tuple[str, str | None]]], address: str) -> None:
    url, asked = origin
    with pytest.raises(InputError, match=r"image: expected an address of http://127\.0\.0\.1"):
        PhotoSource(url, "abc").read(address)
    for near in (f"{url}1/a.png", f"{url}@elsewhere/a.png"):
        with pytest.raises(InputError, match="image: expected an address of"):
            PhotoSource(url).read(near)
    with pytest.raises(InputError, match="image: expected --url"):
        PhotoSource().read(address)
    assert asked == []


@pytest.mark.slow
def test_redirects_large_files_and_faults(origin: tuple[str, list[tuple[str, str | None]]], monkeypatch: pytest.MonkeyPatch) -> None:
    url, asked = origin
    for path in ("/moved", "/nothing"):
        with pytest.raises(InputError, match="image: cannot fetch"):
            PhotoSource(url).read(path)
    assert len(asked) == 2
    monkeypatch.setattr(photo_source, "LARGEST", 10)
    with pytest.raises(InputError, match="image: expected at most"):
        PhotoSource(url).read("/data/a.png")


def test_local_files_lie_in_the_folder(tmp_path: Path) -> None:
    data_trees.photo(tmp_path / "in" / "sub" / "a.png", 4, 6)
    data_trees.photo(tmp_path / "b.png", 4, 6)
    source = PhotoSource(folder=tmp_path / "in")
    assert source.read("/data/local-files/?d=sub/a.png").shape == (4, 6, 3)
    for name in ("../b.png", "%2E%2E/b.png", "/etc/passwd"):
        with pytest.raises(InputError, match="image: expected a path below"):
            source.read(f"/data/local-files/?d={name}")


@pytest.mark.parametrize("address", ["data:image/png;base64,????", "data:image/png,abc", "data:image/png;base64,AAAA"])
def test_inline_pictures_that_are_none(address: str) -> None:
    with pytest.raises(InputError, match="image: "):
        PhotoSource().read(address)


@pytest.mark.parametrize("url", ["host:8080", "ftp://host", "http://", "http://host/path", "http://host?x=1"])
def test_origins_that_are_none(url: str) -> None:
    with pytest.raises(InputError, match="--url: expected http://HOST:PORT of Label Studio"):
        PhotoSource(url)

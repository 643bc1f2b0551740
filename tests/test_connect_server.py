from __future__ import annotations

import http.client
import json
import logging
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from test_connect_label_studio import Halves, request

from ldmseg.connect.label_studio import LabelStudioBackend
from ldmseg.connect.photo_source import PhotoSource
from ldmseg.connect.server import LARGEST, make_server
from ldmseg.errors import InputError


class Waiting(Halves):
    """Computes until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.started, self.go = threading.Event(), threading.Event()
        self.go.set()

    def __call__(self, *args: Any) -> Any:
        self.started.set()
        assert self.go.wait(30)
        return super().__call__(*args)


@dataclass(frozen=True)
class Running:
    port: int
    segmenter: Waiting

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, data, headers or {})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, json.loads(text) if answer.getheader("Content-Type") == "application/json" else text


@pytest.fixture
def server() -> Iterator[Running]:
    segmenter = Waiting()
    with make_server(LabelStudioBackend(segmenter, PhotoSource()), port=0, names=frozenset({"backend.local"})) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield Running(running.server_address[1], segmenter)
        running.shutdown()
        thread.join()


@pytest.mark.slow
def test_the_routes_that_label_studio_asks(server: Running, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        assert server.ask("GET", "/health") == (200, {"status": "UP", "model_class": "ldmseg"})
        assert server.ask("GET", "/")[0] == 200 and server.ask("GET", "/versions") == (200, {"versions": ["ldmseg"]})
        setup = {"project": "1.17", "schema": "<View/>", "hostname": "http://x", "access_token": "secret-token", "extra_params": None}
        assert server.ask("POST", "/setup", setup) == (200, {"model_version": "ldmseg"})
        assert server.ask("POST", "/webhook", {"action": "PROJECT_UPDATED"}) == (200, {})
    assert "secret-token" not in caplog.text
    status, answer = server.ask("POST", "/predict", request())
    assert status == 200 and len(answer["results"][0]["result"]) == 2


@pytest.mark.slow
def test_health_is_answered_while_the_model_computes(server: Running) -> None:
    server.segmenter.go.clear()
    thread = threading.Thread(target=server.ask, args=("POST", "/predict", request()))
    thread.start()
    assert server.segmenter.started.wait(30)
    assert server.ask("GET", "/health")[0] == 200
    server.segmenter.go.set()
    thread.join()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("GET", "/docs", None, {}, 404),
        ("GET", "/../etc/passwd", None, {}, 404),
        ("POST", "/health", {}, {}, 404),
        ("PUT", "/predict", {}, {}, 501),
        ("POST", "/predict", b"{", {}, 400),
        ("POST", "/predict", b"[" * 100_000, {}, 400),
        ("POST", "/predict", {"tasks": 3}, {}, 400),
        ("POST", "/predict", b"", {"Content-Length": str(LARGEST + 1)}, 413),
        ("POST", "/predict", b"", {"Content-Length": "-5"}, 411),
        ("POST", "/predict", b"", {"Content-Length": "x"}, 411),
        ("GET", "/health", None, {"Host": "evil.example"}, 403),
        ("GET", "/health", None, {"Host": "evil.example:9090"}, 403),
        ("GET", "/health", None, {"Origin": "http://evil.example"}, 403),
        ("GET", "/health", None, {"Host": "backend.local:9090"}, 200),
        ("GET", "/health", None, {"Host": "LOCALHOST"}, 200),
        ("GET", "/health", None, {"Host": "[::1]:9090"}, 200),
    ],
)
def test_what_is_refused(server: Running, method: str, path: str, body: Any, headers: dict[str, str], status: int) -> None:
    assert server.ask(method, path, body, headers)[0] == status
    assert server.ask("GET", "/health")[0] == 200


@pytest.mark.slow
def test_a_fault_of_the_model_is_logged_and_not_told(
    server: Running, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Any, given: Any) -> Any:
        raise RuntimeError("inner secret")

    monkeypatch.setattr(LabelStudioBackend, "predict", broken)
    status, answer = server.ask("POST", "/predict", request())
    assert status == 500 and "secret" not in json.dumps(answer) and "inner secret" in caplog.text


@pytest.mark.slow
def test_a_thousand_malformed_requests(server: Running, caplog: pytest.LogCaptureFixture) -> None:
    rng = random.Random(0)
    good = json.dumps(request(context=[{"type": "brushlabels", "value": {"rle": [1, 2, 3]}}])).encode()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    for _ in range(1000):
        body = bytearray(good)
        for _ in range(rng.randrange(1, 20)):
            body[rng.randrange(len(body))] = rng.randrange(256)
        connection.request("POST", "/predict", bytes(body[: rng.randrange(len(body))]))
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 400
    connection.close()
    assert "Traceback" not in caplog.text and server.ask("POST", "/predict", request())[0] == 200


@pytest.mark.slow
def test_a_port_that_is_taken(server: Running) -> None:
    with pytest.raises(InputError, match=f"--host, --port: cannot listen on 127.0.0.1:{server.port}"):
        make_server(LabelStudioBackend(Halves(), PhotoSource()), port=server.port)

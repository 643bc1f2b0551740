"""Label Studio itself, in an environment of its own, driven by REST: our tasks go in, our backend is asked, exports come back."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import data_trees
import numpy as np
import pytest
from masks import random_map
from oracle import interpreter
from test_connect_label_studio import Halves, keypoint

from ldmseg.connect.label_studio import LabelStudioBackend
from ldmseg.connect.photo_source import PhotoSource
from ldmseg.connect.server import make_server
from ldmseg.formats.brush_rle import decode_brush
from ldmseg.formats.tools.label_studio import Control, MaskKind, label_config, open_label_studio, task_document

pytestmark = pytest.mark.slow

ACCOUNT, PASSWORD = "a@b.co", "pass12345"
TOKEN = "0123456789012345678901234567890123456789"
TRIES = 900  # of a second each, until it answers; a busy machine takes minutes to make its tables


@dataclass(frozen=True)
class Product:
    url: str

    def ask(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Authorization": f"Token {TOKEN}", "Content-Type": kind}
        asked = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(asked, timeout=120) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read()[:500]!r}") from error
        return json.loads(text) if text else None

    def project(self, config: str) -> int:
        return self.ask("POST", "/api/projects", {"title": "a project", "label_config": config})["id"]


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    program = Path(interpreter("label_studio")).parent / "label-studio"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("label-studio")
    told = {
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        "ML_BLOCK_LOCAL_IP": "false",
        "SSRF_PROTECTION_ENABLED": "false",
    }
    arguments = ["start", "--no-browser", "--data-dir", str(folder), "--port", str(port), "--internal-host", "127.0.0.1"]
    account = ["--username", ACCOUNT, "--password", PASSWORD, "--user-token", TOKEN]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | told
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen([program, *arguments, *account], stdout=log, stderr=log, env=environment, cwd=folder)
        try:
            _wait(f"http://127.0.0.1:{port}/health", process, folder / "log.txt")
            yield Product(f"http://127.0.0.1:{port}")
        finally:
            process.terminate()
            process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(TRIES):
        assert process.poll() is None, log.read_text()[-2000:]
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(1)
    raise AssertionError(log.read_text()[-2000:])


def multipart(path: Path) -> tuple[bytes, str]:
    head = f'--edge\r\nContent-Disposition: form-data; name="file"; filename="{path.name}"\r\nContent-Type: image/png\r\n\r\n'
    return head.encode() + path.read_bytes() + b"\r\n--edge--\r\n", "multipart/form-data; boundary=edge"


@pytest.mark.parametrize("kind", ["brush", "bitmask", "polygon"])
def test_tasks_go_in_and_exports_come_back(product: Product, tmp_path: Path, kind: MaskKind) -> None:
    pmap = random_map(3)
    names = {1: "cell", 2: "café au lait", 7: "wall <&>"}
    control = Control(kind=kind)
    project = product.project(label_config(names.values(), control))
    task = task_document("https://example.com/a.png", pmap, names, control, "ldmseg")
    task["annotations"] = [{"result": task["predictions"][0]["result"]}]
    done = product.ask("POST", f"/api/projects/{project}/import", [task])
    assert done["task_count"] == 1 and done["annotation_count"] == 1 and done["prediction_count"] == 1
    export = product.ask("GET", f"/api/projects/{project}/export?exportType=JSON")
    path = data_trees.write(tmp_path / "export.json", export)
    back = open_label_studio(path).records[0].read_map()
    order = sorted(pmap.segments, key=lambda s: -int((pmap.ids == s.id).sum()))
    assert (back.ids == pmap.relabel({s.id: n for n, s in enumerate(order, start=1)}).ids).all()


SMART = """<View><Image name="image" value="$image"/>
  <KeyPointLabels name="kp" toName="image" smart="true"><Label value="A"/><Label value="B"/></KeyPointLabels>
  <BrushLabels name="tag" toName="image"><Label value="A"/><Label value="B"/></BrushLabels></View>"""
REGIONS = "() => Htx.annotationStore.selected ? Htx.annotationStore.selected.regionStore.regions.map((r) => r.type) : []"


@contextmanager
def registered(product: Product, project: int, segmenter: Any) -> Iterator[dict[str, Any]]:
    """Our backend, serving and connected to a project: what Label Studio says of it."""
    with make_server(LabelStudioBackend(segmenter, PhotoSource(product.url, TOKEN)), port=0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        backend = product.ask("POST", "/api/ml", {"project": project, "url": url, "title": "ldmseg", "is_interactive": True})
        assert backend["state"] == "CO", backend  # connected
        yield backend
        server.shutdown()
        thread.join()


def test_the_backend_is_registered_asked_and_drawn_with(product: Product, tmp_path: Path) -> None:
    project = product.project(SMART)
    photo = data_trees.photo(tmp_path / "a.png", 24, 40)
    product.ask("POST", f"/api/projects/{project}/import", *multipart(photo))
    task = product.ask("GET", f"/api/tasks?project={project}")["tasks"][0]
    stroke = {"type": "add", "relativePoints": [90, 10, 90, 90], "relativeStrokeWidth": 5, "points": [1, 2], "strokeWidth": 3}
    size = {"original_width": 40, "original_height": 24, "image_rotation": 0}
    value = {"touches": [stroke], "brushlabels": ["B"]}
    region = {**size, "id": "s", "from_name": "tag", "to_name": "image", "type": "brushlabels", "origin": "manual", "value": value}
    product.ask("POST", f"/api/tasks/{task['id']}/drafts", {"result": [region], "lead_time": 1.0})
    segmenter = Halves()
    with registered(product, project, segmenter) as backend:
        context = {"result": [keypoint(10, 50)]}
        answer = product.ask("POST", f"/api/ml/{backend['id']}/interactive-annotating", {"task": task["id"], "context": context})
    (partial,) = segmenter.partials
    assert [s.category_id for s in partial.segments] == [2, 1]
    regions = answer["data"]["result"]
    masks = [decode_brush(r["value"]["rle"], 24, 40) > 0 for r in regions]
    assert sorted(r["value"]["brushlabels"][0] for r in regions) == ["A", "B"] and (np.sum(masks, axis=0) == 1).all()


@pytest.mark.parametrize("pre_labelled", [True, False])
def test_a_person_labels_in_the_browser(product: Product, chromium: Any, tmp_path: Path, pre_labelled: bool) -> None:
    """A task opens with our segments; or a key point of the auto-annotation tool is answered. What is submitted is ours."""
    project = product.project(SMART)
    product.ask("POST", f"/api/projects/{project}/import", *multipart(data_trees.photo(tmp_path / "a.png", 240, 400)))
    task = product.ask("GET", f"/api/tasks?project={project}")["tasks"][0]["id"]
    segmenter = Halves()
    with registered(product, project, segmenter) as backend:
        shown = {"show_collab_predictions": pre_labelled, "evaluate_predictions_automatically": pre_labelled}
        product.ask("PATCH", f"/api/projects/{project}", {**shown, "model_version": backend["title"] if pre_labelled else ""})
        page = chromium.new_context(viewport={"width": 1300, "height": 800}).new_page()
        page.set_default_timeout(300_000)
        page.goto(f"{product.url}/user/login")
        page.fill("input[name=email]", ACCOUNT)
        page.fill("input[name=password]", PASSWORD)
        page.click("button[type=submit]")
        page.wait_for_url(lambda address: "login" not in address)
        page.goto(f"{product.url}/projects/{project}/data?labeling=1")
        page.wait_for_selector("canvas")
        if not pre_labelled:
            page.click("text=Auto-Annotation")
            page.click("text=Auto-Accept Suggestions")
            page.locator("button.lsf-tool_smart").first.click()
            page.locator("span.lsf-label").nth(1).click()  # B, for a key point
            picture = page.locator("canvas").first.bounding_box()
            page.mouse.click(picture["x"] + 0.75 * picture["width"], picture["y"] + 0.5 * picture["height"])
        page.wait_for_function(f"({REGIONS})().filter((type) => type === 'brushregion').length === {2 if pre_labelled else 1}")
        page.click("text=Submit")
        annotations: list[Any] = []
        for _ in range(TRIES):
            if annotations := product.ask("GET", f"/api/tasks/{task}")["annotations"]:
                break
            page.wait_for_timeout(200)
        page.context.close()
    regions = [r["value"] for r in annotations[0]["result"] if r["type"] == "brushlabels"]
    masks = [decode_brush(value["rle"], 240, 400) > 0 for value in regions]
    assert (np.sum(masks, axis=0) == 1).all()  # every pixel is in one segment
    if pre_labelled:
        assert len(masks) == 2 and not segmenter.partials
        return
    (partial,) = segmenter.partials
    assert [s.category_id for s in partial.segments] == [2]  # the point that was set, of the label that was chosen
    assert [value["brushlabels"] for value in regions] == [["B"]]  # and what it was completed to

"""The server as a browser and as an attacker see it."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotating import TOKEN, Site, make_photos, site
from PIL import Image

from ldmseg.annotate.cells import checksum, ids_of, pins_of
from ldmseg.annotate.photos import find_photos
from ldmseg.annotate.security import BODY
from ldmseg.errors import InputError
from ldmseg.formats.coco_panoptic import CocoPanoptic
from ldmseg.formats.label_png import write_label_png
from ldmseg.panoptic import PanopticMap


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(make_photos(tmp_path / "photos"), tmp_path / "project") as found:
        yield found


# --------------------------------------------------------------------------------------------------------------------------- work
@pytest.mark.slow
def test_a_photo_opens_proposed_and_a_stroke_is_pinned_while_the_rest_follows(here: Site) -> None:
    key = here.keys[0]
    here.opened(key)
    told, cells = here.map(key)
    assert (cells > 0).all() and not pins_of(cells).any() and told["undo"] == "model"
    answer = here.post(key, {"kind": "paint", "id": told["next"], "runs": [10, 5, 51, 5], "color": 4})
    assert answer.status_code == 200 and answer.headers["etag"] == f'"{answer.json()["revision"]}"'
    here.until(lambda: not here.services.project.session(key).awaits)
    after, painted = here.map(key)
    assert after["labels"][str(told["next"])] == [None, 4] and after["checksum"] == checksum(painted)
    stroke = np.zeros(cells.size, dtype=bool)
    stroke[10:15] = stroke[66:71] = True
    assert (ids_of(painted).ravel()[stroke] == told["next"]).all() and np.array_equal(pins_of(painted).ravel(), stroke)


@pytest.mark.slow
def test_undo_and_redo_of_everything_over_a_restart(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 1)
    with site(photos, tmp_path / "project") as one:
        key = one.keys[0]
        one.opened(key)
        one.post(key, {"kind": "paint", "id": 40, "runs": [0, 500]})
        one.until(lambda: not one.services.project.session(key).awaits)
        _, last = one.map(key)
    with site(photos, tmp_path / "project") as two:
        assert np.array_equal(two.map(key)[1], last)
        steps = 0
        while two.map(key)[0]["undo"]:
            two.post(key, {"kind": "undo"})
            steps += 1
        assert not two.map(key)[1].any() and steps >= 2
        while two.map(key)[0]["redo"]:
            two.post(key, {"kind": "redo"})
        assert np.array_equal(two.map(key)[1], last)
        assert two.post(key, {"kind": "redo"}).status_code == 400


def test_two_windows_and_the_second_is_told(here: Site) -> None:
    key = here.keys[0]
    here.opened(key)
    shown = here.map(key)[0]["revision"]
    assert here.post(key, {"kind": "paint", "id": 30, "runs": [0, 9]}, shown).status_code == 200
    state = here.services.project.session(key).snapshot().state
    late = here.post(key, {"kind": "paint", "id": 31, "runs": [20, 9]}, shown)
    assert late.status_code == 412 and late.headers["etag"].strip('"').isdigit()
    now = here.services.project.session(key).state.cells
    assert np.array_equal(now[pins_of(state.cells)], state.cells[pins_of(state.cells)])
    assert here.post(key, {"kind": "paint", "id": 31, "runs": [20, 9]}).status_code == 200


def test_finished_photos_are_a_data_set_and_the_others_its_drafts(here: Site) -> None:
    sky = {"id": 2, "name": "sky", "isthing": False, "color": [1, 2, 3]}
    classes = [sky, {"id": 3, "name": "cat", "isthing": True, "color": [4, 5, 6]}]
    assert here.client.put("/api/classes", json=classes).status_code == 200
    for key in here.keys[:2]:
        here.opened(key)
    key, folder = here.keys[0], here.services.project.folder
    here.post(key, {"kind": "pin", "ids": []})
    first = min(here.services.project.session(key).state.labels)
    assert here.post(key, {"kind": "classify", "ids": [first], "category": 2}).status_code == 200
    assert here.client.put(f"/api/photos/{key}/finished", json=True).json()["finished"]
    here.services.project.save_all()
    finished, drafts = CocoPanoptic.open(folder / "panoptic.json"), CocoPanoptic.open(folder / "panoptic_drafts.json")
    assert [r.file_name for r in finished] == ["photo0.png"] and [r.file_name for r in drafts] == ["photo1.png"]
    pmap = finished[0].read_map()
    assert np.array_equal(pmap.ids, ids_of(here.map(key)[1])) and (pmap[first].category_id, pmap[first].isthing) == (2, False)
    assert finished[0].read_image().size == (56, 64)
    with Image.open(folder / "pins" / "photo0.pins.png") as pins:
        assert (np.asarray(pins) == 255).all()
    assert here.client.put("/api/classes", json=classes[1:]).status_code == 400  # one is in use
    assert here.client.put("/api/classes", json=classes[:1]).status_code == 200
    here.client.put(f"/api/photos/{key}/finished", json=False)
    assert not (folder / "panoptic.json").exists() and len(CocoPanoptic.open(folder / "panoptic_drafts.json")) == 2


def test_a_partial_map_is_pinned_from_the_beginning(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 2)
    given = np.zeros((64, 56), dtype=np.int32)
    given[3:9, 4:20] = 700
    write_label_png(tmp_path / "partial" / "photo1.png", PanopticMap(given))
    with site(photos, tmp_path / "project", partial=tmp_path / "partial") as found:
        key = found.keys[1]
        found.opened(key)
        _, cells = found.map(key)
        assert np.array_equal(pins_of(cells), given > 0) and (cells > 0).all() and len(set(ids_of(cells)[given > 0].tolist())) == 1
    write_label_png(tmp_path / "partial" / "photo0.png", PanopticMap(given[:-1]))
    with (
        pytest.raises(InputError, match=r"--partial: .*expected 56x64, the size of .*got 56x63"),
        site(photos, tmp_path / "other", partial=tmp_path / "partial"),
    ):
        pass


def test_large_photos_are_edited_small_and_saved_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ldmseg.annotate.photos.EDIT_SIDE", 32)
    with site(make_photos(tmp_path / "photos", 1), tmp_path / "project") as found:
        key = found.keys[0]
        found.opened(key)
        assert found.map(key)[1].shape == (32, 28)
        found.services.project.save_all()
        assert CocoPanoptic.open(tmp_path / "project" / "panoptic_drafts.json")[0].read_map().shape == (64, 56)


@pytest.mark.slow
def test_confidence_comes_when_there_is_nothing_else_to_do(here: Site) -> None:
    key = here.keys[0]
    assert here.client.get(f"/api/photos/{key}/confidence").status_code == 204
    here.opened(key)
    here.until(lambda: here.services.project.session(key).confidence() is not None)
    answer = here.client.get(f"/api/photos/{key}/confidence")
    assert answer.status_code == 200 and len(answer.content) == 64 * 56


def test_pictures_and_pages_are_served(here: Site) -> None:
    key = here.keys[0]
    for path in ("image", "thumbnail"):
        assert here.client.get(f"/api/photos/{key}/{path}").headers["content-type"] == "image/jpeg"
    page = here.client.get("/")
    assert "no-store" in page.headers["cache-control"] and "default-src 'none'" in page.headers["content-security-policy"]
    for name in ("main.js", "view.js", "style.css", "vendor/htm-preact-standalone.js", "vendor/htm-preact-standalone.LICENSE"):
        assert here.client.get(f"/static/{name}").status_code == 200
    told = here.client.get("/api/project").json()
    assert [p["name"] for p in told["photos"]] == ["photo0.png", "photo1.png", "photo2.png"] and told["palette"]
    assert str(here.services.project.folder.parent) not in here.client.get("/api/project").text


# ------------------------------------------------------------------------------------------------------------------------- attacks
@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "localhost.evil.example:8000"])
def test_another_host_is_refused_on_reading_too(here: Site, host: str) -> None:
    for path in ("/", "/api/project", "/static/main.js", f"/?token={TOKEN}"):
        assert here.client.get(path, headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000"])
def test_names_of_this_machine_are_not(here: Site, host: str) -> None:
    assert here.client.get("/api/project", headers={"Host": host, "Cookie": f"ldmseg={TOKEN}"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:9999"}, {"Sec-Fetch-Site": "cross-site"}],
)
def test_writing_from_another_page_is_refused(here: Site, headers: dict[str, str]) -> None:
    before = here.services.project.session(here.keys[0]).revision
    assert here.post(here.keys[0], {"kind": "pin", "ids": []}, 0, **headers).status_code == 403
    assert here.client.put("/api/classes", json=[], headers=headers).status_code == 403
    assert here.services.project.session(here.keys[0]).revision == before


@pytest.mark.slow
def test_without_the_token_nothing_is_answered(here: Site) -> None:
    here.client.cookies.clear()
    for path in ("/", "/api/project", "/api/events", "/static/main.js", "/?token=wrong"):
        assert here.client.get(path).status_code == 403
    entered = here.client.get(f"/?token={TOKEN}", follow_redirects=False)
    assert entered.status_code == 303 and entered.headers["location"] == "/"
    assert "HttpOnly" in entered.headers["set-cookie"] and "SameSite=Strict" in entered.headers["set-cookie"]


@pytest.mark.parametrize(
    "path", ["/docs", "/redoc", "/openapi.json", "/static/../server.py", "/static/%2e%2e/server.py", "/api/photos/..%2f..%2fetc"]
)
def test_what_is_not_there(here: Site, path: str) -> None:
    assert here.client.get(path).status_code == 404


def test_a_body_is_limited_whether_its_length_is_said_or_not(here: Site) -> None:
    path, headers = f"/api/photos/{here.keys[0]}/operations", {"If-Match": '"0"'}
    assert here.client.post(path, content=b"x" * (BODY + 1), headers=headers).status_code == 413
    assert here.client.post(path, content=(b"x" * 2**20 for _ in range(9)), headers=headers).status_code == 413


@pytest.mark.slow
def test_a_thousand_malformed_requests(here: Site, caplog: pytest.LogCaptureFixture) -> None:
    key, dice = here.keys[0], random.Random(0)
    here.opened(key)
    here.until(lambda: here.services.project.session(key).confidence() is not None)
    before = here.services.project.session(key).revision
    values: list[Any] = [None, True, -1, 2**70, 1.5, "x" * 300, [], {}, [[]], [None], "\ud800", ["a"] * 9, {"kind": []}, [2**63, 1]]
    caplog.set_level(logging.WARNING)
    for _ in range(1000):
        body: Any = {name: dice.choice(values) for name in ("kind", "id", "ids", "runs", "pin", "over", "within", "category", "on")}
        if dice.random() < 0.8:
            body["kind"] = dice.choice(["paint", "erase", "merge", "split", "delete", "pin", "classify"])
        raw = dice.choice([None, b"", b"{", b"[" * 100_000, b"\xff\xfe", b"NaN"])
        tag = dice.choice([f'"{before}"', '"x"', "", '"-1"', "9" * 40])
        photo = f"/api/photos/{key}"
        target = dice.choice([f"{photo}/operations", "/api/photos/none/operations", "/api/classes", f"{photo}/finished"])
        method = "POST" if target.endswith("operations") else "PUT"
        content = raw if raw is not None and dice.random() < 0.4 else _json(body)
        answer = here.client.request(method, target, content=content, headers={"If-Match": tag})
        assert 400 <= answer.status_code < 500, (body, raw, answer.text)
        assert "Traceback" not in answer.text and answer.json()["error"]
    assert here.services.project.session(key).revision == before and not caplog.records


def _json(value: Any) -> bytes:
    import json

    return json.dumps(value).encode()


def test_links_that_lead_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 1)
    make_photos(tmp_path / "secret", 1)
    (photos / "inside.png").symlink_to(photos / "photo0.png")
    assert len(find_photos([photos])) == 1  # the same file once
    (photos / "outside.png").symlink_to(tmp_path / "secret" / "photo0.png")
    with pytest.raises(InputError, match=r"outside\.png' is a link that leads out of its folder"):
        find_photos([photos])


def test_photos_that_cannot_be_read_are_listed_with_the_reason_and_the_others_work(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 1)
    (photos / "broken.png").write_bytes(b"no picture")
    (photos / "empty.jpg").write_bytes(b"")
    bomb = (photos / "photo0.png").read_bytes()
    (photos / "bomb.png").write_bytes(bomb[:16] + (60_000).to_bytes(4) * 2 + bomb[24:])
    with site(photos, tmp_path / "project") as found:
        told = {p["name"]: p["problem"] for p in found.client.get("/api/project").json()["photos"]}
        assert told["photo0.png"] is None and all(told[name] for name in ("broken.png", "empty.jpg", "bomb.png"))
        assert all(str(tmp_path) not in (problem or "") for problem in told.values())
        broken = next(photo.key for photo in found.services.project.photos.values() if photo.path.name == "broken.png")
        assert found.client.post(f"/api/photos/{broken}/open").status_code == 400

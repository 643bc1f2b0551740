"""The annotator in a real browser, used as a person uses it; Debian's Chromium is enough."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import make_scenes, process, served, window
from PIL import Image
from tiny import tiny_pipeline

from ldmseg.annotate.security import Address
from ldmseg.data.scenes import generate_scene
from ldmseg.formats.coco_panoptic import CocoPanoptic

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline(tmp_path_factory.mktemp("model"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make_scenes(tmp_path / "photos")


# ---------------------------------------------------------------------------------------------------------------------------- work
def test_paint_erase_undo_redo_and_reload(chromium: Any, photos: Path, model: Path, tmp_path: Path) -> None:
    with served(photos, tmp_path / "project", model) as server, window(chromium, server) as one:
        proposal = one.same()
        assert (proposal > 0).all() and (proposal < 2**15).all()
        one.press("n")
        one.drag((60, 60), (140, 90))
        painted = one.same()
        (segment,) = one.chosen()
        stroke = painted >= 2**15
        assert (painted[stroke] & 0x7FFF == segment).all() and painted[60, 60] == painted[90, 140] == segment | 2**15
        assert 60 * 20 < stroke.sum() < 140 * 40
        assert painted[75, 100] == segment | 2**15  # no gap between the events
        one.press("e")
        one.drag((100, 75), (100, 75))
        erased = one.same()
        assert erased[75, 100] < 2**15 and erased[75, 100] > 0 and erased[60, 60] == segment | 2**15
        one.page.reload()
        one.ready()
        assert np.array_equal(one.same(), erased)
        assert one.press_while("button[aria-label^=Undo]", "Control+z") >= 3
        assert not one.same().any()
        one.press_while("button[aria-label=Redo]", "Control+Shift+z")
        assert np.array_equal(one.same(), erased)


def test_point_box_lasso_split_merge_delete_accept(chromium: Any, photos: Path, model: Path, tmp_path: Path) -> None:
    with served(photos, tmp_path / "project", model) as server, window(chromium, server) as one:
        one.press("l")
        one.drag((40, 40), (200, 40), (200, 160), (40, 160))
        (lasso,) = one.chosen()
        cells = one.same()
        assert (cells[45:155, 45:195] == lasso | 2**15).all()
        one.press("s")
        one.drag((120, 60), (120, 100))  # within the segment
        assert np.array_equal(one.same(), cells) and "from edge to edge" in one.message()
        one.drag((120, 20), (120, 200))
        cells = one.same()
        left, right = int(cells[100, 60] & 0x7FFF), int(cells[100, 180] & 0x7FFF)
        assert left != right and lasso in (left, right) and (cells[45:155, 45:195] >= 2**15).all()
        one.press("v")
        one.page.mouse.click(*one.at(60, 100))
        one.page.keyboard.down("Shift")
        one.page.mouse.click(*one.at(180, 100))
        one.page.keyboard.up("Shift")
        assert one.chosen() == [left, right]
        one.press("m")
        assert (one.same()[45:155, 45:195] == left | 2**15).all()
        one.press("Delete")
        assert (one.same()[45:155, 45:195] < 2**15).all()
        one.press("p")
        one.page.mouse.click(*one.at(100, 100))
        one.settled()
        (point,) = one.chosen()
        assert one.same()[100, 100] == point | 2**15
        one.press("r")
        one.drag((220, 60), (300, 180))
        (boxed,) = one.chosen()
        cells = one.same()
        rows, columns = np.nonzero(cells & 0x7FFF == boxed)
        assert cells[120, 260] == boxed and rows.min() >= 60 and rows.max() < 180 and columns.min() >= 220 and columns.max() < 300
        one.press("Shift+a")
        accepted = one.same()
        assert (accepted >= 2**15).all()
        one.press("c")
        assert np.array_equal(one.same(), accepted)


@pytest.mark.long
def test_page_and_server_agree_over_a_random_session(chromium: Any, photos: Path, model: Path, tmp_path: Path) -> None:
    """Hundreds of operations, while the model answers now and then; after each, both have the same bits, and pins are exact."""
    session = """async (count) => {
      const { editor } = ldmseg;
      const { predict, checksum } = await import("/static/map.js");
      const { Mask } = await import("/static/raster.js");
      let state = 12345;
      const dice = (n) => (state = (state * 1103515245 + 12345) % 2147483648) % n;
      const pause = (time) => new Promise((done) => setTimeout(done, time));
      const wait = async () => { while (editor.queue.length || editor.sending || editor.behind) await pause(2); };
      let [wrong, lost] = [0, 0];
      for (let step = 0; step < count; step++) {
        const { width, height } = editor.told;
        const ids = [...editor.segments.keys()];
        const mask = new Mask(width, height);
        const spot = () => ({ x: dice(width), y: dice(height), r: 1 + dice(12) });
        if (dice(4) === 0) mask.polygon([spot(), spot(), spot(), spot()]); else mask.line(spot(), spot());
        const any = () => ids[dice(ids.length)] || 1;
        const runs = mask.runs();
        const kinds = [
          { kind: "paint", id: any(), runs, pin: true, over: dice(2) === 0 },
          { kind: "paint", id: editor.told.next, runs, over: false, color: 3 },
          { kind: "paint", id: any(), runs, pin: false }, { kind: "erase", runs }, { kind: "merge", ids: [any(), any()] },
          { kind: "split", id: any(), runs }, { kind: "delete", ids: [any()] }, { kind: "pin", ids: [any()], on: dice(3) > 0 },
          { kind: "classify", ids: [any()], category: null },
        ];
        let operation = kinds[dice(kinds.length)];
        if (dice(12) === 0 && editor.told.undo) operation = { kind: "undo" };
        else if (dice(12) === 0 && editor.told.redo) operation = { kind: "redo" };
        editor.act(operation);
        const burst = dice(3) === 0;
        if (burst) editor.act({ kind: "paint", id: any(), runs, over: true });
        const mine = ["split", "undo", "redo"].includes(operation.kind) ? [] : editor.cells.slice();
        await wait();
        if (checksum(editor.cells) !== editor.told.checksum) wrong += 1;
        if (dice(10) === 0) await pause(120); // the model may answer
        await wait();
        mine.forEach((cell, i) => { if (cell & 0x8000 && editor.cells[i] !== cell) lost += 1; });
      }
      await wait();
      return [wrong, editor.mismatches, lost];
    }"""
    with process(photos, tmp_path / "project", model) as server, window(chromium, server) as one:
        assert one.run(session, 250) == [0, 0, 0]
        one.settled()
        last = one.same()
        server.kill()
        server.start()
        one.page.reload()
        one.ready()
        assert np.array_equal(one.same(), last)


def test_a_second_window_is_told_and_loses_nothing(chromium: Any, photos: Path, model: Path, tmp_path: Path) -> None:
    with served(photos, tmp_path / "project", model) as server, window(chromium, server) as one, window(chromium, server) as two:
        two.run("() => { ldmseg.editor.refresh = () => {}; }")  # a window that heard nothing
        one.press("n")
        one.drag((40, 40), (80, 40))
        (first,) = one.chosen()
        two.page.keyboard.press("n")
        two.drag((40, 150), (80, 150), settle=False)
        two.page.wait_for_function("() => document.querySelector('.message').textContent.includes('another window')")
        two.run("() => { delete ldmseg.editor.refresh; ldmseg.editor.refresh(); }")
        two.settled()
        cells = two.same()
        assert cells[40, 60] == first | 2**15 and cells[150, 60] >= 2**15
        one.page.wait_for_function("(n) => ldmseg.editor.cells[150 * ldmseg.editor.told.width + 60] === n", arg=int(cells[150, 60]))


def test_a_killed_server_loses_nothing_and_what_was_painted_meanwhile_follows(
    chromium: Any, photos: Path, model: Path, tmp_path: Path
) -> None:
    with process(photos, tmp_path / "project", model) as server, window(chromium, server) as one:  # its port and token are its own
        one.press("n")
        one.drag((40, 40), (80, 40))
        server.kill()
        one.page.keyboard.press("n")
        one.drag((40, 150), (80, 150), settle=False)
        one.page.wait_for_function("() => document.querySelector('.message').textContent.includes('does not answer')")
        server.start()
        one.settled()
        cells = one.same()
        assert cells[40, 60] >= 2**15 and cells[150, 60] >= 2**15 and cells[40, 60] != cells[150, 60]
        server.kill()
        Address(int(server.address.split(":")[2].split("/")[0]), "another-secret-than-before").store(server.project)
        one.page.keyboard.press("n")
        one.drag((200, 150), (260, 150), settle=False)
        server.start()
        one.page.wait_for_function("() => document.querySelector('.message').textContent.includes('new address')")
        one.context.request.get(server.address)  # as another tab of this browser: the cookie is for all of them
        one.settled()
        assert one.same()[150, 230] >= 2**15 and np.array_equal(one.same()[cells >= 2**15], cells[cells >= 2**15])


def test_keyboard_alone(chromium: Any, photos: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("thing one\nsky, stuff\n")
    with served(photos, tmp_path / "project", model, labels=tmp_path / "classes.txt") as server, window(chromium, server) as one:
        for close in ("Escape", "?", "Enter"):
            one.press("?")
            for shown in ("dialog.help", "text=Accept everything"):
                one.page.wait_for_selector(shown, state="visible")
            one.press(close)
            one.page.wait_for_selector("dialog.help", state="detached")
        assert not one.same().max() >= 2**15  # Enter was for the dialog
        one.press("b", "n", "Enter", *["ArrowRight"] * 8, *["ArrowDown"] * 3, "Enter")
        (segment,) = one.chosen()
        assert (one.same() == segment | 2**15).sum() > 500
        one.press("2")
        assert one.run("() => ldmseg.editor.classOf(ldmseg.editor.chosen[0]).name") == "sky"
        one.press(".", "a")
        assert one.chosen() != [segment]
        one.press("[", "[")
        size = one.run("() => ldmseg.editor.size")
        one.press("]")
        assert one.run("() => ldmseg.editor.size") > size
        first = one.page.get_attribute("body", "data-photo")
        one.press("Control+Enter")
        one.page.wait_for_function("(name) => document.body.dataset.photo !== name && document.body.dataset.ready === 'yes'", arg=first)
        one.ready()
        assert "1 of 3 finished" in one.page.inner_text(".photos")
        server.stop()
        data = CocoPanoptic.open(tmp_path / "project" / "panoptic.json")
        assert [r.file_name for r in data] == [first] and data[0].read_map()[segment].isthing is False
        server.start()
        one.page.wait_for_function("() => ldmseg.editor.online")


def test_twelve_megapixels(chromium: Any, model: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    scene = generate_scene(4, 400).image[:300]
    Image.fromarray(scene).resize((4000, 3000), Image.Resampling.BICUBIC).save(tmp_path / "photos" / "large.jpg", quality=90)
    with served(tmp_path / "photos", tmp_path / "project", model) as server, window(chromium, server) as one:
        assert one.cells().shape == (960, 1280)
        one.press("n")
        one.drag((300, 300), (500, 400))
        (segment,) = one.chosen()
        one.same()
        one.press("Control+Enter")
        record = CocoPanoptic.open(server.project / "panoptic.json")[0]
        ids = record.read_map().ids
        assert ids.shape == (3000, 4000) and ids[300 * 3, 300 * 3 + 8] == segment and (ids > 0).all()


def test_a_pen_presses_and_fingers_zoom(chromium: Any, photos: Path, model: Path, tmp_path: Path) -> None:
    tablet = {"viewport": {"width": 1024, "height": 768}, "has_touch": True, "device_scale_factor": 2}
    with served(photos, tmp_path / "project", model) as server, window(chromium, server, **tablet) as one:
        tools = one.context.new_cdp_session(one.page)

        def pen(kind: str, x: float, y: float, force: float) -> None:
            sx, sy = one.at(x, y)
            values = {"type": kind, "x": sx, "y": sy, "button": "left", "buttons": 1, "clickCount": 1, "pointerType": "pen", "force": force}
            tools.send("Input.dispatchMouseEvent", values)

        widths = []
        for y, force in ((60, 0.1), (160, 1.0)):
            one.press("n")
            pen("mousePressed", 60, y, force)
            pen("mouseMoved", 160, y, force)
            pen("mouseReleased", 160, y, force)
            one.settled()
            widths.append(int((one.same()[:, 110] == one.chosen()[0] | 2**15).sum()))
        assert 0 < widths[0] < widths[1] / 2
        scale = one.run("() => ldmseg.view.scale")
        cells = one.same()
        x, y = one.at(160, 120)
        for kind, gap in (("touchStart", 20), ("touchMove", 60), ("touchMove", 120), ("touchEnd", None)):
            points = [] if gap is None else [{"x": x - gap, "y": y, "id": 0}, {"x": x + gap, "y": y, "id": 1}]
            tools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        assert one.run("() => ldmseg.view.scale") > 3 * scale
        one.settled()
        assert np.array_equal(one.same(), cells)


def test_what_is_shown_can_be_changed(chromium: Any, photos: Path, model: Path, tmp_path: Path) -> None:
    with served(photos, tmp_path / "project", model) as server, window(chromium, server, color_scheme="dark") as one:
        canvas = one.page.locator("#canvas")
        assert one.page.get_attribute("html", "data-theme") == "dark"
        one.press("t")
        assert one.page.get_attribute("html", "data-theme") == "light"
        pictures = {}
        for key in ("map", "o", "h", "k"):
            if key == "k":
                one.page.wait_for_selector("body[data-confidence=yes]", timeout=60_000)
            if key != "map":
                one.press(key)
            pictures[key] = canvas.screenshot()
            if key != "map":
                one.press(key)
        assert len(set(pictures.values())) == 4
        one.press("j")
        assert len(one.chosen()) == 1
        scale = one.run("() => ldmseg.view.scale")
        one.page.mouse.move(*one.at(160, 120))
        one.page.mouse.wheel(0, -400)
        assert one.run("() => ldmseg.view.scale") > scale
        one.press("f")
        assert one.run("() => ldmseg.view.scale") == scale


def test_a_page_without_the_token_tells_how_to_open_it(chromium: Any, photos: Path, model: Path, tmp_path: Path) -> None:
    with served(photos, tmp_path / "project", model) as server:
        page = chromium.new_page()
        assert page.goto(server.address.split("/?")[0]).status == 403
        assert "token" in page.content()
        page.close()
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(server.address.split("/?")[0] + "/api/project")
        assert json.loads((server.project / "annotate.json").read_text())["version"] == 1

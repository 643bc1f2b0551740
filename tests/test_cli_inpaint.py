from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from command import Result, done, files_in, refused
from PIL import Image, PngImagePlugin
from tiny import tiny_pipeline

from ldmseg.formats.coco_panoptic import open_root
from ldmseg.formats.label_png import write_label_png
from ldmseg.panoptic import PanopticMap

HEIGHT, WIDTH = 24, 40


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline(tmp_path_factory.mktemp("model"))


def photo(path: Path) -> Path:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(path)
    return path


def partial_map(*ids: int) -> PanopticMap:
    """A strip of 8 columns for each id, the rest unknown."""
    full = np.zeros((HEIGHT, WIDTH), dtype=np.int32)
    for number, segment_id in enumerate(ids):
        full[4:20, 8 * number : 8 * number + 8] = segment_id
    return PanopticMap(full)


def label(path: Path, pmap: PanopticMap) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_label_png(path, pmap)
    return path


def inpaint(capsys: pytest.CaptureFixture[str], model: Path, *args: object) -> Result:
    return done(capsys, "inpaint", "--model", model, "--device", "cpu", *args)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "ids"), [("auto", (3, 7)), ("condition", (300, 2)), ("project", (1, 2**24 - 1)), ("resample", (4, 5))])
def test_what_is_given_stays_and_the_rest_is_filled(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path, method: str, ids: tuple[int, ...]
) -> None:
    given = partial_map(*ids)
    args = [photo(tmp_path / "a.png"), "--partial", label(tmp_path / "given.png", given), "-o", tmp_path / "out", "--method", method]
    result = inpaint(capsys, model, *args, "--json").json()
    assert files_in(tmp_path / "out") == {"a.png", "a_overlay.png", "a_panels.png", "panoptic.json"}
    pmap = open_root(tmp_path / "out")[0].read_map()
    assert np.array_equal(pmap.ids[given.ids > 0], given.ids[given.ids > 0])
    assert (pmap.ids > 0).all()
    assert result["images"][0]["segments"] == len(pmap)


@pytest.mark.slow
def test_a_folder_of_partial_maps(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    photos = [photo(tmp_path / f"{name}.png") for name in "ab"]
    given = {name: partial_map(number) for number, name in enumerate("ab", start=5)}
    for name, pmap in given.items():
        label(tmp_path / "given" / f"{name}.png", pmap)
    inpaint(capsys, model, *photos, "--partial", tmp_path / "given", "-o", tmp_path / "both", "--no-overlay")
    for record in open_root(tmp_path / "both"):
        known = given[Path(record.file_name).stem].ids
        assert np.array_equal(record.read_map().ids[known > 0], known[known > 0])
    inpaint(capsys, model, photos[1], "--partial", tmp_path / "given" / "b.png", "-o", tmp_path / "one")
    assert (tmp_path / "both" / "b.png").read_bytes() == (tmp_path / "one" / "b.png").read_bytes()


@pytest.mark.slow
def test_nothing_given_and_everything_given(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    a = photo(tmp_path / "a.png")
    inpaint(capsys, model, a, "--partial", label(tmp_path / "none.png", partial_map()), "-o", tmp_path / "none")
    assert (open_root(tmp_path / "none")[0].read_map().ids > 0).all()
    everything = PanopticMap(np.arange(1, 11).repeat(96).reshape(HEIGHT, WIDTH))
    inpaint(capsys, model, a, "--partial", label(tmp_path / "all.png", everything), "-o", tmp_path / "all")
    assert np.array_equal(open_root(tmp_path / "all")[0].read_map().ids, everything.ids)


def test_refining_keeps_what_is_certain(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    rough = PanopticMap(np.arange(1, 11).repeat(96).reshape(HEIGHT, WIDTH))
    sure = np.zeros((HEIGHT, WIDTH), dtype=np.int32)
    sure[5:9, 10:30] = 1
    args = [photo(tmp_path / "a.png"), "--partial", label(tmp_path / "rough.png", rough), "--method", "refine", "--strength", "0.5"]
    inpaint(capsys, model, *args, "--certain", label(tmp_path / "sure.png", PanopticMap(sure)), "-o", tmp_path / "out")
    ids = open_root(tmp_path / "out")[0].read_map().ids
    assert np.array_equal(ids[sure > 0], rough.ids[sure > 0])
    assert not np.array_equal(ids, rough.ids)


@pytest.mark.slow
def test_an_ensemble_tells_how_sure_it_is(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    given = partial_map(3, 7)
    args = [photo(tmp_path / "a.png"), "--partial", label(tmp_path / "given.png", given), "-o", tmp_path / "out", "--ensemble-size", 3]
    image = inpaint(capsys, model, *args, "--json").json()["images"][0]
    assert files_in(tmp_path / "out") == {"a.png", "a_overlay.png", "a_panels.png", "a_confidence.png", "panoptic.json"}
    assert 0 < image["confidence_mean"] <= 1
    with Image.open(image["confidence"]) as confidence:
        assert confidence.width == WIDTH and confidence.height > HEIGHT  # a bar tells what the colours mean
    with Image.open(image["panels"]) as panels:
        assert panels.width > 3.9 * 480  # photo, given, map, confidence
    ids = open_root(tmp_path / "out")[0].read_map().ids
    assert np.array_equal(ids[given.ids > 0], given.ids[given.ids > 0])


# ---------------------------------------------------------------------------------------------------------------- a user's mistakes
@pytest.mark.slow
def test_options_of_refine_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    args = ["inpaint", photo(tmp_path / "a.png"), "--partial", label(tmp_path / "given.png", partial_map(1)), "-o", tmp_path / "out"]
    assert "--strength: expected with --method refine or a video only" in refused(capsys, *args, "--strength", "0.3")
    assert "--certain: expected with --method refine only" in refused(capsys, *args, "--certain", tmp_path / "given.png")
    assert "--strength: expected above 0 to 1, got 0.0" in refused(capsys, *args, "--method", "refine", "--strength", "0")
    refine = [*args, "--method", "refine", "--certain", tmp_path / "nowhere.png"]
    assert "--certain: expected a label PNG" in refused(capsys, *refine)
    assert not (tmp_path / "out").exists()


def test_a_map_of_another_size(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    a = photo(tmp_path / "a.png")
    turned = label(tmp_path / "turned.png", PanopticMap(partial_map(1).ids.T))
    line = refused(capsys, "inpaint", a, "--partial", turned, "-o", tmp_path / "out")
    assert "turned.png" in line and f"{WIDTH}x{HEIGHT}" in line and f"{HEIGHT}x{WIDTH}" in line
    assert not (tmp_path / "out").exists()


def test_a_huge_map_is_refused_by_its_header(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of some kilobytes may say that it has a billion pixels; it costs nothing where the photo has another size."""
    a = photo(tmp_path / "a.png")
    huge = label(tmp_path / "huge.png", partial_map(1))
    data = bytearray(huge.read_bytes())
    data[16:24] = (40_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    huge.write_bytes(data)
    load = PngImagePlugin.PngImageFile.load
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda image: load(image) if image.width < 1000 else pytest.fail("decoded"))
    assert f"expected {WIDTH}x{HEIGHT}, the size of" in refused(capsys, "inpaint", a, "--partial", huge, "-o", tmp_path / "out")


@pytest.mark.slow
def test_maps_that_are_missing_or_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    a, b = photo(tmp_path / "a.png"), photo(tmp_path / "b.png")
    given = label(tmp_path / "given" / "a.png", partial_map(1))
    (tmp_path / "text.png").write_text("no picture", encoding="utf-8")
    for photos, partial, named in [
        ([a, b], given, "folder"),
        ([a, b], given.parent, "b.png"),
        ([a], tmp_path / "nowhere.png", "nowhere.png"),
        ([a], tmp_path / "text.png", "text.png"),
        ([a], label(tmp_path / "large.png", partial_map(2**24)), str(2**24)),
    ]:
        assert named in refused(capsys, "inpaint", *photos, "--partial", partial, "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_partial_map_is_never_replaced(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    given = label(tmp_path / "given" / "a.png", partial_map(1))
    before = given.read_bytes()
    assert "--output" in refused(capsys, "inpaint", photo(tmp_path / "a.png"), "--partial", given, "-o", given.parent)
    assert given.read_bytes() == before


@pytest.mark.slow
def test_more_segments_than_the_model_has_ids(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    many = label(tmp_path / "many.png", PanopticMap(np.arange(1, 41)[None].repeat(HEIGHT, axis=0)))
    args = ["inpaint", photo(tmp_path / "a.png"), "--partial", many, "-o", tmp_path / "out", "--model", model, "--device", "cpu"]
    assert "15" in refused(capsys, *args)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_model_without_partial_map_channels(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tiny_pipeline(tmp_path / "model", partial=False)
    a, given = photo(tmp_path / "a.png"), label(tmp_path / "given.png", partial_map(1))
    args = [a, "--partial", given, "-o", tmp_path / "out"]
    assert "method" in refused(capsys, "inpaint", *args, "--model", folder, "--device", "cpu", "--method", "condition")
    inpaint(capsys, folder, *args)
    assert (open_root(tmp_path / "out")[0].read_map().ids[partial_map(1).ids > 0] == 1).all()


@pytest.mark.slow
def test_strokes_on_a_layer_come_back_in_their_colours(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    layer = np.zeros((HEIGHT, WIDTH, 4), dtype=np.uint8)
    colors = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    for number, color in enumerate(colors):
        layer[6:18, 12 * number + 2 : 12 * number + 10] = (*color, 255)
    Image.fromarray(layer).save(tmp_path / "layer.png")
    inpaint(capsys, model, photo(tmp_path / "a.png"), "--partial", tmp_path / "layer.png", "-o", tmp_path / "out")
    overlay = np.asarray(Image.open(tmp_path / "out" / "a_overlay.png")).astype(int)
    picture = np.asarray(Image.open(tmp_path / "a.png")).astype(int)
    for number, color in enumerate(colors):
        at = slice(8, 16), slice(12 * number + 4, 12 * number + 8)
        assert np.abs(overlay[at] - (picture[at] + color) / 2).max() <= 1


@pytest.mark.slow
def test_a_white_paper_is_told_and_left_out_on_request(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    drawn = np.full((HEIGHT, WIDTH, 3), 255, dtype=np.uint8)
    drawn[4:10, 4:20] = (255, 0, 0)
    Image.fromarray(drawn).save(tmp_path / "white.png")
    args = [photo(tmp_path / "a.png"), "--partial", tmp_path / "white.png", "-o", tmp_path / "out"]
    assert "--unknown white" in inpaint(capsys, model, *args).err
    result = inpaint(capsys, model, *args, "--unknown", "white")
    assert "warning" not in result.err
    ids = open_root(tmp_path / "out")[0].read_map().ids
    assert (ids[4:10, 4:20] == 255).all() and (ids != 0xFFFFFF).all()
    assert "--unknown: expected a colour" in refused(capsys, "inpaint", *args, "--unknown", "paper")


@pytest.mark.slow
def test_a_jpeg_is_refused_and_can_be_cleaned(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    drawn = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    drawn[4:20, 4:20], drawn[4:20, 24:36] = (255, 0, 0), (0, 0, 255)
    Image.fromarray(drawn).save(tmp_path / "drawn.jpg")
    args = [photo(tmp_path / "a.png"), "--partial", tmp_path / "drawn.jpg", "-o", tmp_path / "out"]
    assert "JPEG" in refused(capsys, "inpaint", *args)
    inpaint(capsys, model, *args, "--clean-partial")
    ids = open_root(tmp_path / "out")[0].read_map().ids
    assert len(np.unique(ids[6:18, 6:18])) == 1

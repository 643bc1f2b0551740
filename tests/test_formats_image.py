from __future__ import annotations

import os
import subprocess
import sys
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from ldmseg.errors import InputError
from ldmseg.formats import image as formats_image
from ldmseg.formats.id_png import read_id_png
from ldmseg.formats.image import list_images, read_image
from ldmseg.formats.label_png import read_label_png


def pixel(image: Image.Image) -> tuple[int, int, int]:
    assert image.mode == "RGB"
    return image.getpixel((0, 0))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (Image.new("RGB", (2, 1), (1, 2, 3)), (1, 2, 3)),
        (Image.new("L", (2, 1), 7), (7, 7, 7)),
        (Image.new("1", (2, 1), 1), (255, 255, 255)),
        (Image.new("LA", (2, 1), (0, 0)), (255, 255, 255)),
        (Image.new("LA", (2, 1), (9, 255)), (9, 9, 9)),
        (Image.new("RGBA", (2, 1), (255, 0, 0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (2, 1), (255, 0, 0, 255)), (255, 0, 0)),
        (Image.new("RGBA", (2, 1), (0, 0, 0, 51)), (204, 204, 204)),
        (Image.new("CMYK", (2, 1), (0, 255, 255, 0)), (255, 0, 0)),
        (Image.new("YCbCr", (2, 1), (255, 128, 128)), (255, 255, 255)),
        (Image.fromarray(np.full((1, 2), 65535, np.uint16)), (255, 255, 255)),
        (Image.fromarray(np.full((1, 2), 257 * 100, np.uint16)), (100, 100, 100)),
        (Image.fromarray(np.array([[5.0, -1.0, np.nan, 2.0]], np.float32)), (255, 255, 255)),
        (Image.fromarray(np.array([[-10, 90]], np.int32)), (0, 0, 0)),
    ],
)
def test_every_mode_becomes_rgb(picture: Image.Image, expected: tuple[int, int, int]) -> None:
    before = picture.mode, picture.tobytes()
    assert pixel(read_image(picture)) == expected
    assert (picture.mode, picture.tobytes()) == before


PEAK = """
import os, re, sys
from pathlib import Path
from ldmseg.formats.image import read_image

def peak():  # of this process alone: getrusage counts what its parent had, too
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

for path in sys.argv[1:]:  # each in a child of a process that has read none
    if os.fork() == 0:
        before = peak()
        image = read_image(path)
        print(Path(path).name, (peak() - before) / (image.width * image.height), flush=True)
        os._exit(0)
    os.wait()
"""


def _large(mode: str) -> Image.Image:
    image = Image.new(mode.removesuffix(" rotated"), (3200, 4000))
    if mode == "P":
        image.putpalette([10, 20, 30])
    return image


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is counted in other units elsewhere")
def test_reading_takes_at_most_12_bytes_a_pixel(tmp_path: Path) -> None:
    kinds = [(mode, "png") for mode in ("1", "L", "LA", "P", "RGB", "RGB rotated", "RGBA", "I;16")]
    for mode, suffix in [*kinds, ("I;16", "tif"), ("I", "tif"), ("F", "tif"), ("CMYK", "tif")]:
        exif = Image.Exif()
        exif[0x0112] = 6 if "rotated" in mode else 1
        more = {"transparency": 0} if mode == "P" else {}
        _large(mode).save(tmp_path / f"{mode.replace(' ', '_')}.{suffix}", exif=exif, **more)
    files = [str(path) for path in sorted(tmp_path.iterdir())]
    done = subprocess.run([sys.executable, "-c", PEAK, *files], capture_output=True, text=True, check=True)
    needed = {name: float(each) for name, each in (line.split() for line in done.stdout.splitlines())}
    assert len(needed) == 12 and max(needed.values()) <= 12, needed


def test_bands_make_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    pictures = [
        Image.fromarray(rng.integers(0, 256, (30, 20, 4), dtype=np.uint8)),
        Image.fromarray(rng.integers(0, 65536, (30, 20), dtype=np.uint16)),
        Image.fromarray(rng.integers(-5, 70000, (30, 20), dtype=np.int32)),
        Image.fromarray(np.where(rng.random((30, 20)) < 0.1, np.nan, rng.normal(size=(30, 20))).astype(np.float32)),
    ]
    whole = [np.asarray(read_image(picture)) for picture in pictures]
    monkeypatch.setattr(formats_image, "BAND", 7)
    assert all(np.array_equal(np.asarray(read_image(picture)), expected) for picture, expected in zip(pictures, whole, strict=True))


def test_a_picture_of_too_many_pixels_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("1", (100, 50)).save(tmp_path / "x.png")
    with pytest.raises(InputError, match=r"x.png': expected at most 4,999 pixels, got 100 x 50; --max-pixels \(max_pixels\) allows more"):
        read_image(tmp_path / "x.png", max_pixels=4999)
    assert read_image(tmp_path / "x.png", max_pixels=5000).size == (100, 50)
    with pytest.raises(InputError, match="expected at most 4,999 pixels"):
        read_label_png(tmp_path / "x.png", max_pixels=4999)

    header = (tmp_path / "x.png").read_bytes()
    size = (20_000).to_bytes(4, "big")
    chunk = b"IHDR" + size + size + header[24:29]
    bomb = header[:12] + chunk + zlib.crc32(chunk).to_bytes(4, "big") + header[33:]
    (tmp_path / "bomb.png").write_bytes(bomb)
    for read, most in ((read_image, "178,956,970"), (read_label_png, "100,000,000"), (read_id_png, "178,956,970")):
        with pytest.raises(InputError, match=rf"bomb.png': expected at most {most} pixels, got more"):
            read(tmp_path / "bomb.png")
    with pytest.raises(InputError, match="the given bytes: expected at most 178,956,970 pixels"):
        read_image(bomb)
    before = Image.MAX_IMAGE_PIXELS
    monkeypatch.setattr(Image.Image, "load", lambda self: None)  # nothing so large is decoded here
    with formats_image.open_image(tmp_path / "bomb.png", 400_000_000) as opened:
        assert opened.size == (20_000, 20_000)
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("error", [RuntimeError, KeyError, NotImplementedError, ZeroDivisionError, AssertionError, AttributeError])
def test_whatever_a_decoder_raises_is_one_line(error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Damaged AVIF and BLP files ended in tracebacks."""
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")

    def broken(self: Image.Image) -> None:
        raise error("decoder\nis lost" + "!" * 1000)

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", broken)
    for read in (read_image, read_label_png):
        with pytest.raises(InputError, match=r"cannot read '.*x.png': .*decoder") as caught:
            read(tmp_path / "x.png")
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 300 + len(str(tmp_path))


def test_a_palette_with_a_transparent_colour(tmp_path: Path) -> None:
    picture = Image.new("P", (2, 1), 0)
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.putpixel((1, 0), 1)
    picture.save(tmp_path / "x.png", transparency=0)
    read = read_image(tmp_path / "x.png")
    assert pixel(read) == (255, 255, 255) and read.getpixel((1, 0)) == (40, 50, 60)


@pytest.mark.parametrize("values", [[0.25, 0.5, 1.25], [np.nan, np.inf, 3.0], [np.nan, np.nan, np.nan]])
def test_float_pictures_are_scaled_by_their_finite_values(tmp_path: Path, values: list[float]) -> None:
    Image.fromarray(np.array([values], np.float32)).save(tmp_path / "x.tif")
    gray = np.asarray(read_image(tmp_path / "x.tif"))[0, :, 0].tolist()
    assert gray == {0.25: [0, 64, 255]}.get(values[0], [0, 0, 0])


def test_sixteen_bit_files_keep_their_whole_range(tmp_path: Path) -> None:
    levels = np.array([[0, 257, 32768, 65535]], np.uint16)
    for name in ("x.png", "x.tif"):
        Image.fromarray(levels).save(tmp_path / name)
        assert np.asarray(read_image(tmp_path / name))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_the_camera_s_orientation_is_applied(tmp_path: Path) -> None:
    picture = Image.new("RGB", (4, 2))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "x.jpg", exif=exif)
    assert read_image(tmp_path / "x.jpg").size == (2, 4)


def test_damaged_exif_data_is_ignored() -> None:
    picture = Image.new("RGB", (4, 2), (1, 2, 3))
    picture.info["exif"] = b"Exif\x00\x00broken"
    assert read_image(picture).size == (4, 2)


def test_bytes_and_paths_are_read_alike(tmp_path: Path) -> None:
    Image.new("RGB", (3, 2), (9, 8, 7)).save(tmp_path / "x.png")
    for source in (tmp_path / "x.png", str(tmp_path / "x.png"), (tmp_path / "x.png").read_bytes()):
        assert pixel(read_image(source)) == (9, 8, 7)


def jpeg(side: int = 64) -> bytes:
    stream = BytesIO()
    Image.effect_noise((side, side), 80).save(stream, "JPEG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.jpg", b"", "it is empty"),
        ("text.jpg", b"hello", "no picture of a known format"),
        ("cut.jpg", jpeg()[:-600], "truncated"),
        ("header.png", b"\x89PNG\r\n\x1a\n", "no picture|truncated|broken|unexpected"),
    ],
)
def test_broken_files_are_named_in_one_line(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=reason) as caught:
        read_image(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(InputError, match=reason):
        read_image(content)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"image: cannot read '.*nothing.png': no such file"):
        read_image(tmp_path / "nothing.png")
    with pytest.raises(InputError, match="it is a folder"):
        read_image(tmp_path)
    with pytest.raises(InputError, match="cannot read"):
        read_image("n" * 5000)


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (100, 100)).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(InputError, match=r"x\.png': expected at most 200 pixels"):
        read_image(tmp_path / "x.png")


def test_any_truncation_is_an_input_error_or_a_whole_picture() -> None:
    for content in (jpeg(16), _encoded("PNG"), _encoded("TIFF"), _encoded("GIF"), _encoded("WEBP"), _encoded("BMP")):
        for end in range(0, len(content), max(1, len(content) // 25)):
            try:
                assert read_image(content[:end]).mode == "RGB"
            except InputError as error:
                assert "\n" not in str(error)


def _encoded(kind: str) -> bytes:
    stream = BytesIO()
    Image.effect_noise((16, 16), 80).convert("RGB").save(stream, kind)
    return stream.getvalue()


def test_folders_are_listed_by_name_and_files_as_given(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "notes.txt", "._a.png"):
        (tmp_path / name).touch()
    (tmp_path / "deeper.png").mkdir()
    (tmp_path / "z.raw").touch()
    assert list_images(tmp_path) == [tmp_path / "a.png", tmp_path / "b.JPG"]
    given = [tmp_path / "z.raw", str(tmp_path), tmp_path / "a.png"]
    assert [p.name for p in list_images(given)] == ["z.raw", "a.png", "b.JPG"]


def test_lists_that_cannot_be_worked_on(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no pictures"):
        list_images([tmp_path])
    with pytest.raises(InputError, match="no such file"):
        list_images([tmp_path / "x.png"])
    with pytest.raises(InputError, match="at least one"):
        list_images([])
    (tmp_path / "x.png").touch()
    (tmp_path / "x.jpg").touch()
    with pytest.raises(InputError, match=rf"'{tmp_path}{os.sep}x.jpg' and '{tmp_path}{os.sep}x.png' would both"):
        list_images([tmp_path])

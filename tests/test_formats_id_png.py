from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from fuzz_mutations import png_chunks, png_of
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ldmseg.errors import InputError
from ldmseg.formats import id_png
from ldmseg.formats.id_png import read_id_png, write_id_png


@pytest.fixture(params=["pillow", "imagecodecs"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "pillow":
        monkeypatch.setitem(sys.modules, "imagecodecs", None)  # an import of it fails
    else:
        pytest.importorskip("imagecodecs")
    return request.param


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (33, 20)])
def test_both_decoders_read_the_same_ids(decoder: str, shape: tuple[int, int], tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 2**24, shape)
    write_id_png(tmp_path / "ids.png", ids)
    assert np.array_equal(read_id_png(tmp_path / "ids.png"), ids)


def test_only_a_plain_png_goes_to_imagecodecs(tmp_path: Path) -> None:
    pytest.importorskip("imagecodecs")
    rgb = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    Image.fromarray(rgb).save(tmp_path / "plain.png")
    assert id_png._decode_with_imagecodecs(tmp_path / "plain.png") is not None
    Image.fromarray(rgb).convert("RGBA").save(tmp_path / "alpha.png")
    Image.fromarray(rgb).convert("P").save(tmp_path / "palette.png")
    Image.fromarray(rgb).save(tmp_path / "photo.bmp")
    for name in ("alpha.png", "palette.png", "photo.bmp"):
        assert id_png._decode_with_imagecodecs(tmp_path / name) is None
    assert np.array_equal(read_id_png(tmp_path / "alpha.png"), read_id_png(tmp_path / "plain.png"))


@pytest.mark.slow
@given(st.integers(0, 10**6), st.integers(1, 255))
@settings(max_examples=150)
def test_no_flipped_byte_is_taken_for_other_ids(place: int, flip: int) -> None:
    """Whatever byte is wrong, the ids are right or the file is refused in one line."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ids.png"
        ids = np.random.default_rng(0).integers(0, 2**24, (10, 12))
        write_id_png(path, ids)
        data = bytearray(path.read_bytes())
        data[place % len(data)] ^= flip
        path.write_bytes(data)
        assert id_png._decode_with_imagecodecs(path) is None
        try:
            read_id_png(path)
        except InputError as error:
            assert "\n" not in str(error)


def test_a_truncated_file_is_named(decoder: str, tmp_path: Path) -> None:
    path = tmp_path / "half.png"
    write_id_png(path, np.random.default_rng(0).integers(0, 2**24, (64, 64)))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"half\.png"):
        read_id_png(path)


def test_a_chunk_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    """The decoder of imagecodecs raises UnicodeDecodeError on it."""
    write_id_png(tmp_path / "a.png", np.ones((2, 3), dtype=np.int32))
    header, *rest = png_chunks((tmp_path / "a.png").read_bytes())
    (tmp_path / "a.png").write_bytes(png_of([header, (b"\xf0DAT", b"x"), *rest]))
    with pytest.raises(InputError, match="cannot read"):
        read_id_png(tmp_path / "a.png")

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from masks import masks, random_mask
from numpy.typing import NDArray
from oracle import ask

from ldmseg.errors import InputError
from ldmseg.formats.brush_rle import decode_brush, encode_brush

BY_LABEL_STUDIO = [0, 0, 0, 24, 57, 27, 252, 96, 19, 255, 206, 1, 31, 248]
"""The code of `PIXELS` as label-studio-sdk 2.1.2 writes it."""

PIXELS = np.array([[0, 255, 255], [0, 0, 255]], dtype=np.uint8)


@pytest.mark.slow
@given(masks)
def test_there_and_back(mask: NDArray[np.bool_]) -> None:
    assert ((decode_brush(encode_brush(mask), *mask.shape) > 0) == mask).all()


@pytest.mark.slow
@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8)))
def test_every_level_of_alpha(alpha: NDArray[np.uint8]) -> None:
    assert (decode_brush(encode_brush(alpha), *alpha.shape) == alpha).all()


def test_runs_longer_than_a_block_holds() -> None:
    mask = np.zeros((300, 400), dtype=bool)
    mask[50:200] = True
    code = encode_brush(mask)
    assert len(code) < 100
    assert ((decode_brush(code, 300, 400) > 0) == mask).all()


def test_literal_values_are_read_at_any_bit() -> None:
    """A block of single values, and colours beside alpha, as a browser writes them."""
    values = [9, 8, 7, 255, 1, 2, 3, 0]
    bits = f"{8:032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    bits += "0" + "01" + f"{7:04b}" + "".join(f"{v:08b}" for v in values)
    code = [int(bits[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(bits), 8)]
    assert decode_brush(code, 1, 2).tolist() == [[255, 0]]


@pytest.mark.parametrize("rle", [[], [0] * 5, [0, 0, 0, 24], [300] * 9, [-1] * 9, "rle", None, [[1, 2], [3]], [0.5] * 9])
def test_what_is_no_code(rle: object) -> None:
    with pytest.raises(InputError, match="rle: expected the bytes of Label Studio's run lengths"):
        decode_brush(rle, 2, 3)  # type: ignore[arg-type]


def test_codes_of_another_size_and_cut_ones() -> None:
    code = encode_brush(PIXELS)
    with pytest.raises(InputError, match=r"expected 36 bytes \(3 x 3 pixels of four\), got 24 words of 8 bits"):
        decode_brush(code, 3, 3)
    for end in range(7, len(code) - 1):
        with pytest.raises(InputError, match=r"ends or goes on|run lengths"):
            decode_brush(code[:end], 2, 3)
    with pytest.raises(InputError, match="expected a mask of 1 to"):
        decode_brush(code, 10**9, 10**9)


@given(st.binary(min_size=7, max_size=40))
def test_noise_is_refused_or_read(data: bytes) -> None:
    code = [0, 0, 0, 16, *data]
    try:
        assert decode_brush(code, 2, 2).shape == (2, 2)
    except InputError as error:
        assert "\n" not in str(error)


def test_a_code_of_label_studio() -> None:
    assert (decode_brush(BY_LABEL_STUDIO, 2, 3) == PIXELS).all()


@pytest.mark.slow
def test_the_sdk_of_label_studio_agrees() -> None:
    """Its reader understands our codes, and we understand its codes, of thousands of masks."""
    rng = np.random.default_rng(0)
    found = [random_mask(rng, 24) for _ in range(2000)]
    code = """
import numpy as np
from label_studio_sdk.converter.brush import decode_rle, mask2rle
answer = []
for pixels, ours in given:
    pixels = np.array(pixels, np.uint8) * 255
    read = decode_rle(ours).reshape(*pixels.shape, 4)[:, :, 3]
    answer.append([bool((read == pixels).all()), [int(v) for v in mask2rle(pixels)]])
"""
    answers = ask("label_studio_sdk", code, [[mask.astype(int).tolist(), encode_brush(mask)] for mask in found])
    for mask, (understood, theirs) in zip(found, answers, strict=True):
        assert understood
        assert ((decode_brush(theirs, *mask.shape) > 0) == mask).all()

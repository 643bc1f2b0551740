from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ldmseg.config import ColorConfig, DataConfig, load_config
from ldmseg.data.transforms import PADDING, Color, View, draw_color, draw_view
from ldmseg.errors import InputError
from ldmseg.images import image_batch, load_images
from ldmseg.panoptic import VOID, PanopticMap

SHAPES = st.tuples(st.integers(1, 60), st.integers(1, 60))
RESIZES = st.sampled_from(["square", "crop", "jitter", "zoom"])


@st.composite
def views(draw: st.DrawFn) -> tuple[tuple[int, int], View]:
    """(H, W) of an image, and a view drawn for it."""
    shape, resize = draw(SHAPES), draw(RESIZES)
    config = DataConfig(size=draw(st.sampled_from([1, 8, 32, 33])), resize=resize)
    return shape, draw_view(shape, config, np.random.default_rng(draw(st.integers(0, 2**32))))


def photo_of(shape: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def mirrored(view: View) -> View:
    return View(view.height, view.width, view.top, view.left, view.size, not view.flip)


@given(views(), st.integers(0, 2**32))
def test_ids_are_never_mixed(drawn: tuple[tuple[int, int], View], seed: int) -> None:
    shape, view = drawn
    ids = np.random.default_rng(seed).choice(np.array([0, 1, 7, 1000, 2**31 - 1], dtype=np.int32), shape)
    window = view.ids(ids)
    assert window.shape == (view.size, view.size) and window.dtype == ids.dtype
    assert set(np.unique(window)) <= set(np.unique(ids)) | {VOID}


@pytest.mark.slow
@given(views())
def test_void_and_padding_are_where_nothing_is(drawn: tuple[tuple[int, int], View]) -> None:
    shape, view = drawn
    outside = view.ids(np.ones(shape, np.int32)) == VOID
    image = view.image(np.zeros((*shape, 3), np.uint8), Color(brightness=0.5, contrast=1.0, saturation=1.0))
    assert image.shape == (3, view.size, view.size) and image.dtype == np.uint8
    assert np.array_equal(image[0] == PADDING, outside)
    inside = np.argwhere(~outside)  # at least one pixel, and no hole
    assert len(inside) == np.prod(inside.max(0) - inside.min(0) + 1)


@pytest.mark.slow
@given(views())
def test_photo_and_map_show_the_same_place(drawn: tuple[tuple[int, int], View]) -> None:
    """Both hold each pixel's own column and row: what the photo interpolates is near what the map names."""
    shape, view = drawn
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    ids = (rows * 100 + columns + 1).astype(np.int32)
    photo = np.stack([rows * 4, columns * 4, rows * 0], axis=-1).astype(np.uint8)
    window, image = view.ids(ids), view.image(photo)
    inside = window != VOID
    for channel, position, reach in (
        (0, (window - 1) // 100, shape[0] / view.height),
        (1, (window - 1) % 100, shape[1] / view.width),
    ):
        # A filter that averages over `reach` pixels is cut off at the edge of the photo.
        tolerance = 4 * (0.5 + 0.5 * reach) + 1
        assert np.abs(image[channel].astype(int) - 4 * position)[inside].max() <= tolerance


@pytest.mark.slow
@given(views())
def test_a_flip_mirrors_photo_and_map(drawn: tuple[tuple[int, int], View]) -> None:
    shape, view = drawn
    ids, photo = np.arange(1, shape[0] * shape[1] + 1, dtype=np.int32).reshape(shape), photo_of(shape)
    assert np.array_equal(mirrored(view).ids(ids), view.ids(ids)[:, ::-1])
    assert np.array_equal(mirrored(view).image(photo), view.image(photo)[:, :, ::-1])


@pytest.mark.slow
@given(SHAPES, st.booleans())
def test_the_square_is_what_a_pipeline_sees(shape: tuple[int, int], flip: bool) -> None:
    view = View(32, 32, 0, 0, 32, flip)
    photo, ids = photo_of(shape), photo_of(shape)[..., 0].astype(np.int32)
    seen = ((image_batch(load_images(photo), 32)[0] + 1) * 127.5).round().byte().numpy()
    nearest = PanopticMap(ids).resize(32, 32)
    assert np.array_equal(view.image(photo), seen[:, :, ::-1] if flip else seen)
    assert np.array_equal(view.ids(ids), (nearest.flip() if flip else nearest).ids)


@pytest.mark.slow
@given(st.integers(0, 2**32))
def test_a_window_is_cut_from_the_scaled_whole(seed: int) -> None:
    """Pillow is asked for the window alone; it must be what scaling everything and cutting would give, to a level."""
    shape, config = (30, 44), DataConfig(size=48, resize="jitter", scale_range=(0.5, 4), flip=False)
    view = draw_view(shape, config, np.random.default_rng(seed))
    photo = photo_of(shape)
    whole = load_images(photo)[0].float() / 255
    scaled = _resized(whole, view.height, view.width)
    expected = np.full((3, view.size, view.size), float(PADDING))
    for y in range(view.size):
        row = y + view.top
        if 0 <= row < view.height:
            columns = np.arange(view.size) + view.left
            inside = (columns >= 0) & (columns < view.width)
            expected[:, y, inside] = scaled[:, row, columns[inside]]
    assert np.abs(view.image(photo) - expected).max() <= 1.5


def _resized(image: object, height: int, width: int) -> NDArray[np.floating]:
    import torch.nn.functional as F

    scaled = F.interpolate(image[None], size=(height, width), mode="bilinear", antialias=True, align_corners=False)  # type: ignore[index]
    return scaled[0].numpy() * 255


@given(SHAPES, st.integers(0, 2**32))
def test_a_crop_fills_the_square_and_jitter_keeps_proportions(shape: tuple[int, int], seed: int) -> None:
    crop = draw_view(shape, DataConfig(size=32, resize="crop"), np.random.default_rng(seed))
    assert min(crop.height, crop.width) == 32
    assert not (crop.ids(np.ones(shape, np.int32)) == VOID).any()
    jitter = draw_view(shape, DataConfig(size=320, resize="jitter", scale_range=(0.5, 2)), np.random.default_rng(seed))
    assert 160 <= max(jitter.height, jitter.width) <= 640
    assert abs(jitter.height * shape[1] - jitter.width * shape[0]) <= 0.5 * sum(shape)


def test_zoom_shows_the_whole_or_a_window_of_its_proportions() -> None:
    config = DataConfig(size=40, resize="zoom", whole_rate=0.25)
    views = [draw_view((60, 30), config, np.random.default_rng(seed)) for seed in range(400)]
    assert 0.2 < np.mean([view.whole for view in views]) < 0.31
    assert all(view.height == view.width and 40 <= view.height <= 80 for view in views)  # the image squared, times 1 to 2
    assert not any((view.ids(np.ones((60, 30), np.int32)) == VOID).any() for view in views[:40])
    assert max(view.height for view in views) > 75 and max(view.top for view in views) > 25


@pytest.mark.slow
@given(views(), st.integers(1, 3))
def test_a_view_with_more_pixels_shows_the_same(drawn: tuple[tuple[int, int], View], factor: int) -> None:
    shape, view = drawn
    larger = view.times(factor)
    assert larger.image(photo_of(shape)).shape == (3, factor * view.size, factor * view.size) and larger.flip == view.flip
    edges = [(v.top / v.height, v.left / v.width, (v.top + v.size) / v.height, (v.left + v.size) / v.width) for v in (view, larger)]
    assert edges[0] == pytest.approx(edges[1])


def test_what_is_drawn_covers_its_range() -> None:
    rng = np.random.default_rng(0)
    config = DataConfig(size=100, resize="jitter")
    drawn = [draw_view((100, 50), config, rng) for _ in range(300)]
    assert min(v.height for v in drawn) < 20 and max(v.height for v in drawn) > 190
    assert 0.4 < np.mean([v.flip for v in drawn]) < 0.6
    assert min(v.left for v in drawn) < -60 < 0 < max(v.top for v in drawn)
    colors = [draw_color(ColorConfig(brightness=0.4, saturation=0.2), rng) for _ in range(200)]
    brightness = [c.brightness for c in colors if c is not None]
    assert 0.6 <= min(brightness) < 0.65 and 1.35 < max(brightness) <= 1.4
    assert all(c is not None and c.contrast == 1 and 0.8 <= c.saturation <= 1.2 for c in colors)


def test_no_color_draws_no_number() -> None:
    rng, other = np.random.default_rng(3), np.random.default_rng(3)
    assert draw_color(ColorConfig(), rng) is None
    assert rng.random() == other.random()


def test_colors() -> None:
    photo = photo_of((20, 30))
    image = np.moveaxis(photo, -1, 0)
    assert np.array_equal(Color(1, 1, 1).adjust(image), image)
    assert np.abs(Color(0.5, 1, 1).adjust(image) - image / 2).max() <= 0.51
    gray = Color(1, 1, 0).adjust(image).astype(int)
    assert (gray[0] == gray[1]).all() and (gray[1] == gray[2]).all()
    flat = Color(1, 0, 1).adjust(image).astype(int)
    assert np.ptp(flat) == 0 and abs(flat.mean() - (0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]).mean()) < 1
    assert Color(2, 2, 2).adjust(np.full((3, 2, 2), 255, np.uint8)).max() == 255  # clipped, not wrapped around


@settings(max_examples=20)
@given(RESIZES, st.integers(0, 100))
def test_a_view_is_a_function_of_the_generator(resize: str, seed: int) -> None:
    config = DataConfig(size=16, resize=resize, flip=True)  # type: ignore[arg-type]
    assert draw_view((9, 20), config, np.random.default_rng(seed)) == draw_view((9, 20), config, np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("config", "overrides", "message"),
    [
        ("scenes-diffusion", ["data.scale_range=[0.5, 1]"], "scale_range: expected none with resize square"),
        ("scenes-diffusion", ["data.resize=jitter", "data.scale_range=[2, 1]"], "scale_range: expected the smaller scale first"),
        ("scenes-diffusion", ["data.resize=crop", "data.scale_range=[0, 1]"], "data.scale_range.0: .*greater than 0"),
        ("scenes-diffusion", ["data.resize=stretch"], "data.resize: .*'square', 'crop', 'jitter' or 'zoom', got 'stretch'"),
        ("scenes-diffusion", ["data.color.contrast=1.5"], "data.color.contrast: .*less than or equal to 1, got 1.5"),
        ("scenes-diffusion", ["data.color.hue=0.1"], "'data.color.hue' is no known key"),
        ("scenes-diffusion", ["data.on_error=ignore"], "data.on_error: .*'stop' or 'skip', got 'ignore'"),
        ("scenes-diffusion", ["data.latents=x", "data.resize=crop"], "latents: expected resize square and no color.*got resize crop"),
        ("scenes-diffusion", ["data.latents=x", "data.color.contrast=0.1"], "latents: expected resize square and no color.*got color"),
        ("scenes-autoencoder", ["data.latents=x"], "data.latents: expected none in stage 1"),
        ("scenes-autoencoder", ["data.color.contrast=0.1"], "data.color: expected none in stage 1"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(config: str, overrides: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_config(config, overrides)
    assert "\n" not in str(caught.value)

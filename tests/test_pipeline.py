from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.pipelines import pipeline_utils
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny import IMAGE_SIZE, NUM_IDS, build_tiny, tiny_pipeline

from ldmseg import VOID, LDMSegPipeline, PanopticMap, Segment, Thresholds
from ldmseg.errors import InputError
from ldmseg.models.manifest import MANIFEST

PIPE = build_tiny()
PIPE.set_progress_bar_config(disable=True)
PLAIN = build_tiny(partial=False)
PLAIN.set_progress_bar_config(disable=True)
SPATIAL = build_tiny()
SPATIAL.register_to_config(id_policy="spatial")
SPATIAL.set_progress_bar_config(disable=True)


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (1, 1), (37, 61), (300, 3), (64, 200)])
def test_any_size_comes_back_at_its_own(height: int, width: int) -> None:
    pmap = PIPE(photo(height, width), generator=seeded()).maps[0]
    assert pmap.shape == (height, width)
    assert ((pmap.ids > 0) & (pmap.ids < NUM_IDS)).all()
    assert all(0 < s.score <= 1 for s in pmap.segments if s.score is not None)


@pytest.mark.slow
def test_every_kind_of_image_is_the_same_image() -> None:
    array = photo(40, 32)
    latents = torch.randn(1, 4, 4, 4, generator=seeded())
    kinds = [array, Image.fromarray(array), torch.from_numpy(array).movedim(-1, 0), array.astype(np.float32) / 255, [array], array[None]]
    results = [PIPE(kind, latents=latents).maps[0] for kind in kinds]
    assert all(np.array_equal(result.ids, results[0].ids) for result in results)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "I;16", "CMYK"])
def test_any_mode(mode: str) -> None:
    image = Image.fromarray(photo(20, 30)).convert("L") if mode == "I;16" else Image.fromarray(photo(20, 30))
    image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
    assert PIPE(image, generator=seeded()).maps[0].shape == (20, 30)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_an_image_does_not_depend_on_its_batch(sampler: str) -> None:
    images = [photo(32, 32, 1), photo(20, 50, 2), photo(64, 33, 3)]
    together = PIPE(images, generator=[seeded(i) for i in range(3)], sampler=sampler, output_type="latent").maps
    for index, image in enumerate(images):
        alone = PIPE(image, generator=seeded(index), sampler=sampler, output_type="latent").maps[0]
        assert torch.allclose(alone, together[index], atol=1e-5)


def test_seeds_count() -> None:
    image = photo(32, 32)
    first, again, other = (PIPE(image, generator=seeded(s), output_type="latent").maps[0] for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    one, two = PIPE([image, image], generator=seeded(0), output_type="latent").maps
    assert not torch.equal(one, two)  # one generator hands out a seed per image


def test_output_types_and_tuple() -> None:
    image, latents = photo(24, 40), torch.randn(1, 4, 4, 4, generator=seeded())
    pmap = PIPE(image, latents=latents).maps[0]
    assert np.array_equal(PIPE(image, latents=latents, output_type="np").maps[0], pmap.ids)
    assert np.array_equal(PIPE(image, latents=latents, output_type="pt").maps[0].numpy(), pmap.ids)
    assert PIPE(image, latents=latents, output_type="latent").maps[0].shape == (4, 4, 4)
    assert PIPE(image, latents=latents, return_dict=False)[0][0] == pmap


@pytest.mark.slow
def test_a_photo_is_encoded_once_and_asked_many_times(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [photo(24, 40, 1), photo(33, 20, 2)]
    partials = [PanopticMap(np.pad(np.full((4, 4), 7), ((0, i.shape[0] - 4), (0, i.shape[1] - 4)))) for i in images]
    encoded = PIPE.encode_image(images)
    assert encoded.shape == (2, 8, 4, 4)
    asked = [PIPE(images, generator=[seeded(0), seeded(1)]), PIPE.inpaint(images, partials, generator=[seeded(0), seeded(1)])]
    monkeypatch.setattr(type(PIPE.image_encoder), "encode", lambda *_: pytest.fail("the photo was encoded again"))
    known = {"image_latents": encoded, "generator": [seeded(0), seeded(1)]}
    assert PIPE(images, **known).maps == asked[0].maps
    assert PIPE.inpaint(images, partials, image_latents=encoded, generator=[seeded(0), seeded(1)]).maps == asked[1].maps


def test_copies_of_a_photo_are_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, encode = [], type(PIPE.image_encoder).encode
    monkeypatch.setattr(type(PIPE.image_encoder), "encode", lambda self, images: seen.append(len(images)) or encode(self, images))
    PIPE([photo(24, 40, 1), photo(33, 20, 2)], ensemble_size=5, ensemble_flips="horizontal", num_inference_steps=1)
    assert seen == [4]  # two photos, each as it is and mirrored


def test_an_older_name_of_an_option_still_works() -> None:
    with pytest.warns(FutureWarning, match="follow_edges is now boundaries"):
        old = PIPE(photo(24, 40), generator=seeded(), follow_edges=False).maps[0]
    assert old == PIPE(photo(24, 40), generator=seeded(), boundaries="drawn").maps[0]


def test_loading_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    LDMSegPipeline.from_pretrained(tiny_pipeline(tmp_path))
    assert "cannot get type annotation" not in capfd.readouterr().err + caplog.text


def test_callback_sees_and_changes_each_step() -> None:
    seen = []

    def stop(pipe: LDMSegPipeline, step: int, timestep: int, tensors: dict) -> dict:
        seen.append((step, timestep, set(tensors)))
        return {"latents": torch.zeros_like(tensors["latents"])}

    out = PIPE(
        photo(32, 32),
        num_inference_steps=3,
        generator=seeded(),
        output_type="latent",
        callback_on_step_end=stop,
        callback_on_step_end_tensor_inputs=["latents", "estimate"],
    )
    assert [(s, t) for s, t, _ in seen] == [(0, 999), (1, 666), (2, 332)]
    assert seen[0][2] == {"latents", "estimate"}
    assert (out.maps[0] == 0).all()


def test_save_and_load(tmp_path: Path) -> None:
    latents = torch.randn(1, 4, 4, 4, generator=seeded())
    tiny_pipeline(tmp_path)
    again = LDMSegPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert again(photo(32, 32), latents=latents).maps[0] == PIPE(photo(32, 32), latents=latents).maps[0]
    assert again.config["image_size"] == IMAGE_SIZE
    again.save_pretrained(tmp_path / "copy")
    assert LDMSegPipeline.from_pretrained(tmp_path / "copy").options == PIPE.options


@pytest.mark.parametrize("victim", ["model_index.json", "unet/diffusion_pytorch_model.safetensors", "mask_autoencoder/config.json"])
def test_damaged_folders_are_one_line(tmp_path: Path, victim: str) -> None:
    file = tiny_pipeline(tmp_path) / victim
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    for message in (f"--model: '.*{victim}' is not the file", "--model: expected"):
        with pytest.raises(InputError, match=message) as caught:
            LDMSegPipeline.from_pretrained(tmp_path)
        assert "\n" not in str(caught.value)
        (tmp_path / MANIFEST).unlink(missing_ok=True)


@pytest.mark.parametrize("changes", [{"beta_start": 10**400}, {"num_train_timesteps": 2**31}])
def test_a_schedule_that_makes_no_sense_is_one_line(tmp_path: Path, changes: dict[str, object]) -> None:
    folder = tiny_pipeline(tmp_path / "model")
    (folder / MANIFEST).unlink()
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    try:
        LDMSegPipeline.from_pretrained(folder)(photo(32, 32))
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) < 1200
    else:
        pytest.fail("it was loaded")


@pytest.mark.parametrize("place", ["beside", "part", "current"])
def test_code_that_a_model_names_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """Of the pipeline's class, of a part in its folder, and of a module in the current folder, where `python -m ldmseg` would find it."""
    folder = tiny_pipeline(tmp_path / "model")
    (folder / MANIFEST).unlink()
    index = json.loads((folder / "model_index.json").read_text())
    index["_class_name" if place == "beside" else "unet"] = ["evil", "Evil"]
    (folder / "model_index.json").write_text(json.dumps(index))
    home = {"beside": folder, "part": folder / "unet", "current": tmp_path}[place]
    (home / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass Evil: ...\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    monkeypatch.setattr(pipeline_utils, "load_sub_model", lambda **_: pytest.fail("a part was loaded"))
    with pytest.raises(InputError, match=r"--model: model_index.json: .* expected .*, got"):
        LDMSegPipeline.from_pretrained(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
@given(
    st.integers(1, 50),
    st.integers(1, 50),
    st.integers(0, 14),
    st.floats(0, 1),
    st.sampled_from(["condition", "project", "resample"]),
    st.sampled_from([PIPE, SPATIAL]),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60)
def test_known_pixels_and_given_ids_survive(
    height: int, width: int, count: int, unknown: float, method: str, pipe: LDMSegPipeline, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    names = rng.choice([5, 17, 900, 70_000, 2**31 - 1, *range(100, 110)], count, replace=False) if count else np.zeros(1, dtype=int)
    ids = np.where(rng.random((height, width)) < unknown, VOID, rng.choice(names, (height, width)))
    partial = PanopticMap(ids)
    done = pipe.inpaint(photo(height, width, 1), partial, method=method, num_inference_steps=1, generator=seeded(seed)).maps[0]
    known = partial.ids != VOID
    assert np.array_equal(done.ids[known], partial.ids[known])
    assert (done.ids > 0).all()
    assert {s.id for s in partial.segments} <= {s.id for s in done.segments}


def test_given_attributes_survive_and_new_segments_get_new_ids() -> None:
    ids = np.zeros((32, 32), dtype=int)
    ids[:16, :16] = 7
    partial = PanopticMap(ids, (Segment(7, category_id=3, isthing=True),))
    done = PIPE.inpaint(photo(32, 32), partial, generator=seeded()).maps[0]
    assert done[7] == Segment(7, category_id=3, isthing=True)
    assert len(done) > 1


@pytest.mark.slow
def test_the_partial_map_is_seen() -> None:
    """Both methods answer to what was given: another partial map gives other latents, with the same noise."""
    ids = np.zeros((32, 32), dtype=int)
    ids[:, :16] = 1
    for method in ("condition", "project", "resample", "refine"):
        first, second = (
            PIPE.inpaint(photo(32, 32), PanopticMap(i), method=method, generator=seeded(), output_type="latent").maps[0]
            for i in (ids, ids[:, ::-1])
        )
        assert not torch.allclose(first, second, atol=1e-3)


def test_a_label_smaller_than_a_cell_counts() -> None:
    """A single known pixel changes the latents of its cell, with every method."""
    ids = np.zeros((32, 32), dtype=int)
    ids[3, 3] = 1
    for method in ("condition", "project", "resample"):
        with_it, without = (
            PIPE.inpaint(photo(32, 32), PanopticMap(i), method=method, generator=seeded(), output_type="latent", num_inference_steps=1)
            for i in (ids, np.zeros_like(ids))
        )
        difference = (with_it.maps[0] - without.maps[0]).abs().amax(0)  # (4, 4)
        assert difference[0, 0] > 1e-3


@pytest.mark.slow
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.05, 1), st.floats(0, 1), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_refining_keeps_certain_pixels(height: int, width: int, strength: float, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rough = PanopticMap(rng.integers(0, 10, (height, width)))
    sure = rng.random((height, width)) < share
    options = {"method": "refine", "strength": strength, "num_inference_steps": 2, "generator": seeded(seed)}
    done = PIPE.inpaint(photo(height, width, 1), rough, certain=sure, **options).maps[0]
    known = sure & (rough.ids != VOID)
    assert np.array_equal(done.ids[known], rough.ids[known])
    assert (done.ids > 0).all()


@pytest.mark.slow
def test_little_strength_is_a_short_way() -> None:
    steps: list[int] = []

    def count(pipe: LDMSegPipeline, step: int, timestep: int, tensors: dict) -> dict:
        steps.append(timestep)
        return {}

    rough = PanopticMap(np.ones((32, 32), dtype=int))
    for strength, expected in ((0.3, [299, 199, 99]), (0.01, [99]), (1.0, [999 - 100 * i for i in range(10)])):
        steps.clear()
        PIPE.inpaint(photo(32, 32), rough, method="refine", strength=strength, num_inference_steps=10, callback_on_step_end=count)
        assert steps == expected


def test_an_ensemble_is_drawn_in_one_batch_and_keeps_what_is_given() -> None:
    ids = np.zeros((24, 40), dtype=int)
    ids[4:20, :16] = 900
    out = PIPE.inpaint(photo(24, 40), PanopticMap(ids), ensemble_size=3, generator=seeded())
    assert out.confidence is not None and out.samples is not None
    assert out.confidence[0].shape == (24, 40)
    assert (out.confidence[0][ids == 900] == 1).all()
    assert (out.maps[0].ids[ids == 900] == 900).all()
    assert len(out.samples[0]) == 3
    assert all((one.ids[ids == 900] == 900).all() for one in out.samples[0])
    latents = PIPE(photo(24, 40), ensemble_size=3, generator=seeded(), output_type="latent").maps[0]
    assert latents.shape == (3, 4, 4, 4)
    assert not torch.equal(latents[0], latents[1])


def test_an_ensemble_does_not_depend_on_its_batch() -> None:
    images = [photo(32, 32, 1), photo(20, 50, 2)]
    together = PIPE(images, generator=[seeded(0), seeded(1)], ensemble_size=2, output_type="latent").maps
    alone = PIPE(images[1], generator=seeded(1), ensemble_size=2, output_type="latent").maps[0]
    assert torch.allclose(alone, together[1], atol=1e-5)
    single = PIPE(images[0], generator=seeded(0), ensemble_size=1)
    assert single.confidence is None


def test_projection_ends_with_the_given_latents() -> None:
    ids = np.zeros((32, 32), dtype=int)
    ids[:, :16] = 1
    done = PLAIN.inpaint(photo(32, 32), PanopticMap(ids), generator=seeded(), output_type="latent").maps[0]
    given_ids = torch.from_numpy(np.where(ids == 1, _first_random_code(), 0))[None]
    expected = PLAIN.mask_autoencoder.encode(given_ids)[0]
    assert torch.allclose(done[..., :2], expected[..., :2], atol=1e-5)


def _first_random_code() -> int:
    return int(np.random.default_rng(0).permutation(NUM_IDS - 1)[0] + 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p(photo(8, 8), num_inference_steps=0), "num_inference_steps: expected at least 1, got 0"),
        (lambda p: p(photo(8, 8), num_inference_steps=1001), r"num_inference_steps: expected 1\.\.1000, got 1001"),
        (lambda p: p(photo(8, 8), steps=4), "options: expected some of num_inference_steps, .*got 'steps'"),
        (lambda p: p(photo(8, 8), method="project"), "method, strength, resamplings: expected with inpaint only"),
        (lambda p: p(photo(8, 8), image_latents=torch.zeros(1, 8, 3, 3)), r"image_latents: expected shape \(1, 8, 4, 4\), got"),
        (lambda p: p(photo(8, 8), thresholds={"probability": 2}), r"probability: expected 0\.\.1, got 2"),
        (lambda p: p(photo(8, 8), output_type="jpeg"), "output_type: expected one of"),
        (lambda p: p([]), "image: expected at least one"),
        (lambda p: p(3), "image: expected a PIL image, an array, a tensor or a path, got int"),
        (lambda p: p(np.zeros((4, 4, 7), np.uint8)), "image: expected an array"),
        (lambda p: p(np.full((4, 4, 3), 7.0)), r"image: expected floats in 0\.\.1"),
        (lambda p: p(np.zeros((4, 4, 3), np.int64)), "image: expected uint8, uint16, bool or floats"),
        (lambda p: p(torch.zeros(4, 4)), "image: expected a tensor"),
        (lambda p: p([photo(8, 8)] * 2, generator=[seeded()]), r"generator: expected one, or one per image \(2\), got 1"),
        (lambda p: p(photo(8, 8), latents=torch.zeros(1, 4, 3, 3)), "latents: expected shape"),
        (lambda p: p(photo(8, 8), sampler="euler"), "sampler: expected one of"),
        (lambda p: p(photo(8, 8), callback_on_step_end_tensor_inputs=["noise"]), "callback_on_step_end_tensor_inputs: expected some of"),
        (
            lambda p: p.inpaint(photo(8, 8), PanopticMap(np.ones((8, 9), int))),
            r"partial: expected the size of image 0, \(8, 8\), got \(8, 9\)",
        ),
        (lambda p: p.inpaint([photo(8, 8)] * 2, [PanopticMap(np.ones((8, 8), int))]), "partial: expected one map per image"),
        (lambda p: p.inpaint(photo(8, 8), np.ones((8, 8))), "partial: expected"),
        (lambda p: p.inpaint(photo(8, 8), PanopticMap(np.ones((8, 8), int)), method="magic"), "method: expected one of"),
        (lambda p: p.inpaint(photo(4, 4), PanopticMap(np.arange(1, 17).reshape(4, 4))), "partial: expected at most 15 segments"),
        (lambda p: p(photo(8, 8), ensemble_size=0), "ensemble_size: expected at least 1, got 0"),
        (
            lambda p: p.inpaint(photo(8, 8), PanopticMap(np.ones((8, 8), int)), method="refine", strength=0),
            "strength: expected above 0 to 1, got 0",
        ),
        (lambda p: p.inpaint(photo(8, 8), PanopticMap(np.ones((8, 8), int)), certain=np.ones((8, 8), bool)), "certain: expected with"),
        (
            lambda p: p.inpaint(photo(8, 8), PanopticMap(np.ones((8, 8), int)), method="refine", certain=np.ones((8, 9), bool)),
            r"certain: expected \(H, W\) booleans of the map's size \(8, 8\), got \(8, 9\)",
        ),
        (
            lambda p: p.inpaint(photo(8, 8), PanopticMap(np.ones((8, 8), int)), method="resample", resamplings=0),
            "resamplings: expected at least 1",
        ),
    ],
)
def test_bad_input_is_named_before_anything_is_computed(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(PIPE)


def test_condition_needs_the_channels() -> None:
    with pytest.raises(InputError, match="method: expected project"):
        PLAIN.inpaint(photo(8, 8), PanopticMap(np.ones((8, 8), int)), method="condition")


def test_thresholds_leave_void() -> None:
    everything = PIPE(photo(32, 32), generator=seeded(), thresholds=Thresholds(min_area=32 * 32 + 1)).maps[0]
    assert len(everything) == 0


def test_parts_must_fit() -> None:
    from ldmseg import ConvImageEncoder

    with pytest.raises(InputError, match="image_encoder: expected the mask autoencoder's downscale 8, got 4"):
        LDMSegPipeline(PIPE.mask_autoencoder, ConvImageEncoder(8, (8, 8), downscale=4), PIPE.unet, PIPE.scheduler)


def test_diffusers_own_class_loads_a_saved_model(tmp_path: Path) -> None:
    tiny_pipeline(tmp_path)
    assert type(DiffusionPipeline.from_pretrained(tmp_path)) is LDMSegPipeline

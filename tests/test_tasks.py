"""Several tasks in one model: the pipeline, its training and the command line."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import done, refused
from PIL import Image
from tiny import IMAGE_SIZE, NUM_IDS, build_tiny

from ldmseg import LDMSegPipeline, LearnedDescriptor, PanopticMap
from ldmseg.config import load_config, validate_config
from ldmseg.data.datasets import load_dataset
from ldmseg.dense import DepthMap
from ldmseg.errors import InputError
from ldmseg.evaluate import evaluate, evaluate_task
from ldmseg.formats.coco_json import Category
from ldmseg.formats.depth_png import read_depth_png
from ldmseg.metrics.depth import DepthQuality
from ldmseg.metrics.semantic import SemanticQuality
from ldmseg.models.denoiser import Condition, add_cross_attention, build_denoiser
from ldmseg.models.descriptors import build_descriptor
from ldmseg.models.targets import TASKS
from ldmseg.segmenters import as_segmenter
from ldmseg.training.loop import train
from ldmseg.training.stages.diffusion import DiffusionStage
from ldmseg.visualize import depth_picture, target_picture

WIDTH = 12
SETTINGS: dict[str, Any] = {
    "panoptic": {},
    "semantic": {"categories": [{"id": 3 * n, "name": f"c{n}", "isthing": n < 3} for n in range(1, 6)]},
    "depth": {"near": 1.0, "far": 9.0, "bins": 8, "unit": "miles"},
}


def pipeline(**options: Any) -> LDMSegPipeline:
    """A tiny model of all tasks with random weights."""
    base = build_tiny(**options)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        unet = build_denoiser("tiny", image_channels=8, partial=True, cross_attention=True, cross_attention_dim=WIDTH).eval()
        descriptor = build_descriptor("learned", WIDTH, queries=2, tasks=TASKS)
    parts = {**base.components, "unet": unet, "descriptor": descriptor}
    pipe = LDMSegPipeline(**parts, image_size=IMAGE_SIZE, inference=base.options, tasks=SETTINGS)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def photo(seed: int = 0) -> torch.Tensor:
    return torch.rand(3, 40, 30, generator=torch.Generator().manual_seed(seed))


def drawn(pipe: LDMSegPipeline, *photos: torch.Tensor, **settings: Any) -> Any:
    return pipe(list(photos), generator=[torch.Generator().manual_seed(5) for _ in photos], **settings)


# ---------------------------------------------------------------------------------------------------------------------- the networks
@pytest.mark.slow
@torch.no_grad()
def test_cross_attention_that_is_added_changes_nothing_at_first() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        before = build_denoiser("tiny", image_channels=8).eval()
        after = add_cross_attention(before, WIDTH)
        x, image, tokens = torch.randn(2, 4, 4, 4), torch.randn(2, 8, 4, 4), torch.randn(2, 3, WIDTH)
    time = torch.tensor([3, 700])
    assert torch.equal(after.predict(x, time, Condition(image, tokens=tokens)), before.predict(x, time, Condition(image)))
    assert after.config["cross_attention_dim"] == WIDTH and not after.training
    with torch.enable_grad():
        after.predict(x, time, Condition(image, tokens=tokens)).square().mean().backward()
    assert after.mid_block.attentions[0].transformer_blocks[0].attn2.to_out[0].weight.grad.any()
    with pytest.raises(InputError, match=r"^denoiser: expected one without cross-attention"):
        add_cross_attention(after, WIDTH)


def test_every_task_has_tokens_of_its_own() -> None:
    descriptor = LearnedDescriptor(2, WIDTH, ("panoptic", "depth"))
    tokens = descriptor(3, tasks=["depth", "panoptic", "depth"])
    assert tokens.shape == (3, 2, WIDTH) and torch.equal(tokens[0], tokens[2]) and not torch.equal(tokens[0], tokens[1])
    tokens[0].sum().backward()
    assert descriptor.query_tokens.grad is not None and not descriptor.query_tokens.grad[0].any()
    for wrong in (None, ["depth"], ["depth", "depth", "semantic"]):
        with pytest.raises(InputError, match=r"^tasks: expected one of panoptic, depth per image \(3\), got"):
            descriptor(3, tasks=wrong)


# ---------------------------------------------------------------------------------------------------------------------- the pipeline
@pytest.mark.slow
def test_each_task_gives_its_type() -> None:
    pipe = pipeline()
    assert pipe.tasks == ("panoptic", "semantic", "depth")
    segments, categories, depth = (drawn(pipe, photo(), task=task).maps[0] for task in TASKS)
    assert isinstance(segments, PanopticMap) and drawn(pipe, photo()).maps[0] == segments
    assert isinstance(categories, PanopticMap) and {s.category_id for s in categories.segments} <= {3, 6, 9, 12, 15}
    assert all(s.category_id == 3 * s.id and s.isthing == (s.id < 3) for s in categories.segments)
    assert isinstance(depth, DepthMap) and depth.shape == (40, 30) and depth.unit == "miles"
    assert depth.values.min() >= 1 and depth.values.max() <= 9.001
    array, tensor = (drawn(pipe, photo(), task="depth", output_type=kind).maps[0] for kind in ("np", "pt"))
    assert np.array_equal(array, depth.values) and torch.equal(tensor, torch.from_numpy(depth.values.copy()))
    latents = [drawn(pipe, photo(), task=task, output_type="latent").maps[0] for task in TASKS]
    assert not torch.allclose(latents[0], latents[1]) and not torch.allclose(latents[1], latents[2])


def test_names_are_for_segments_alone() -> None:
    pipe, sky = pipeline(), (Category(40, "sky", isthing=False),)

    class Sky:
        categories = sky

        def probabilities(self, image: torch.Tensor, pmap: PanopticMap) -> np.ndarray:
            return np.ones((len(pmap), 1))

    out = drawn(pipe, photo(), classes=Sky())
    assert out.categories == sky and all(s.category_id == 40 for s in out.maps[0].segments)
    own = drawn(pipe, photo(), task="semantic")
    assert [c.id for c in own.categories] == [3, 6, 9, 12, 15] and drawn(pipe, photo(), task="depth").categories is None
    for task in ("semantic", "depth"):
        with pytest.raises(InputError, match=f"^classes: expected none with task {task}, because it is about segments, got Sky$"):
            drawn(pipe, photo(), task=task, classes=Sky())
        with pytest.raises(InputError, match=r"^classes: expected own, none or an OpenVocabulary, got 'all'$"):
            drawn(pipe, photo(), task=task, classes="all")


@pytest.mark.parametrize("task", TASKS)
def test_a_batch_changes_nothing(task: str) -> None:
    pipe = pipeline()
    alone = [drawn(pipe, photo(seed), task=task, output_type="latent").maps[0] for seed in (1, 2)]
    together = drawn(pipe, photo(1), photo(2), task=task, output_type="latent").maps
    torch.testing.assert_close(torch.stack(list(together)), torch.stack(alone), atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_a_saved_model_draws_the_same(tmp_path: Path) -> None:
    pipe = pipeline()
    pipe.save_pretrained(tmp_path / "model")
    again = LDMSegPipeline.from_pretrained(tmp_path / "model")
    again.set_progress_bar_config(disable=True)
    assert again.tasks == TASKS and again.codecs == pipe.codecs and again.descriptor.tasks == TASKS
    for task in TASKS:
        assert drawn(again, photo(), task=task).maps == drawn(pipe, photo(), task=task).maps


def test_a_model_of_one_task_needs_no_tokens(tmp_path: Path) -> None:
    base = build_tiny()
    pipe = LDMSegPipeline(**base.components, image_size=IMAGE_SIZE, inference=base.options, tasks={"depth": SETTINGS["depth"]})
    pipe.set_progress_bar_config(disable=True)
    assert pipe.tasks == ("depth",) and isinstance(drawn(pipe, photo()).maps[0], DepthMap)
    with pytest.raises(InputError, match=r"^task: expected depth, which this model draws, got 'panoptic'"):
        pipe.inpaint(photo(), PanopticMap(np.ones((40, 30), dtype=int)))
    assert base.config["tasks"] is None and base.tasks == ("panoptic",)
    with pytest.raises(InputError, match=r"^task: expected depth, which this model draws, got 'panoptic'$"):
        as_segmenter(pipe)([photo()], None, [0])


def test_samples_agree_on_a_depth_and_on_categories() -> None:
    pipe = pipeline(sampler="ddpm")
    out = drawn(pipe, photo(), task="depth", ensemble_size=3, ensemble_flips="horizontal")
    values = np.stack([sample.values for sample in out.samples[0]])
    assert np.array_equal(out.maps[0].values, np.median(values, axis=0)) and out.maps[0].unit == "miles"
    within = np.maximum(values / out.maps[0].values, out.maps[0].values / values) < 1.25
    assert np.allclose(out.confidence[0], within.mean(0))
    votes = drawn(pipe, photo(), task="semantic", ensemble_size=3)
    assert all(s.category_id == 3 * s.id for sample in votes.samples[0] for s in sample.segments)
    assert all(s.category_id == 3 * s.id for s in votes.maps[0].segments)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "flow"}, "task: expected panoptic or semantic or depth, which this model draws, got 'flow'"),
        ({"task": "depth", "tile_size": 20}, "tile_size: expected none with task depth, because it is about segments, got 20"),
        ({"task": "semantic", "min_component_area": 5}, "min_component_area: expected none with task semantic"),
        ({"guidance_scale": 2.0}, "guidance_scale: expected 1, because this model's descriptor says what to draw"),
    ],
)
def test_mistakes_in_a_call(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        drawn(pipeline(), photo(), **settings)


def test_options_for_segments_leave_other_tasks_alone() -> None:
    pipe = pipeline(tile_size=20, min_component_area=4)
    assert drawn(pipe, photo(), task="depth").maps[0].shape == (40, 30)


def test_parts_that_do_not_belong_together() -> None:
    pipe, base = pipeline(), build_tiny()
    shared = {"image_size": IMAGE_SIZE, "inference": base.options}
    with pytest.raises(InputError, match=r"^descriptor: expected one with tokens for panoptic, semantic, depth, got one without tasks"):
        LDMSegPipeline(**base.components, **shared, tasks=SETTINGS)
    with pytest.raises(InputError, match=r"^descriptor: expected one without tasks for the task panoptic, got one with tokens"):
        LDMSegPipeline(**pipe.components, **shared)
    with pytest.raises(InputError, match=r"^depth.bins: expected 2 to 15"):
        LDMSegPipeline(**base.components, **shared, tasks={"depth": {"near": 1.0, "far": 2.0, "bins": NUM_IDS}})


def test_depth_maps_are_saved_with_their_unit(tmp_path: Path) -> None:
    pipe = pipeline()
    out = drawn(pipe, photo(), task="depth", ensemble_size=2)
    assert out.save(tmp_path / "d", [photo()], names=["x"]) == tmp_path / "d" / "depth.json"
    assert np.allclose(read_depth_png(tmp_path / "d" / "x.png").values, out.maps[0].values, atol=1 / 256)
    assert {p.name for p in (tmp_path / "d").iterdir()} == {"x.png", "x_overlay.png", "x_confidence.png", "depth.json"}
    told = json.loads(drawn(pipe, photo(), task="semantic").save(tmp_path / "s").read_text())
    assert [c["name"] for c in told["categories"]] == ["c1", "c2", "c3", "c4", "c5"]


# -------------------------------------------------------------------------------------------------------------------------- pictures
def test_near_is_bright_and_far_is_dark() -> None:
    depth = DepthMap(np.array([[1.0, 2.0, 4.0, np.nan]]))
    colors = np.asarray(depth_picture(depth)).astype(int).sum(2)[0]
    assert colors[0] > colors[1] > colors[2] and np.asarray(depth_picture(depth))[0, 3].tolist() == [64, 64, 64]
    wide = np.asarray(depth_picture(depth, 0.5, 8.0)).astype(int).sum(2)[0]
    assert wide[0] < colors[0] and wide[2] > colors[2]
    depth_picture(DepthMap(np.full((2, 2), np.nan)))
    with pytest.raises(InputError, match="near, far: expected 0 < near <= far, got 3 and 2"):
        depth_picture(depth, 3, 2)
    image = np.zeros((1, 4, 3), dtype=np.uint8)
    assert target_picture(image, depth).tobytes() == depth_picture(depth).tobytes()


# -------------------------------------------------------------------------------------------------------------------------- training
def run_config(folder: Path, **changes: Any) -> dict[str, Any]:
    return {
        "stage": "diffusion",
        "autoencoder": str(folder),
        "data": {"train": "scenes:6", "val": "scenes:2:val", "size": 32, "scene_segments": [2, 4]},
        "denoiser": {"source": "tiny"},
        "image_encoder": {"latent_channels": 8, "widths": [8, 8]},
        "descriptors": {"kind": "learned", "queries": 2, "width": WIDTH},
        "tasks": {"panoptic": 2, "semantic": 1, "depth": 1},
        "depth": {"bins": 8},
        "optim": {"batch_size": 4, "steps": 2, "precision": "fp32"},
        "validation": {"samples": 1, "every": 2},
        "inference": {"num_inference_steps": 1},
        **changes,
    }


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 32 ids: scenes have 28 categories."""
    from ldmseg.models.mask_autoencoder import MaskAutoencoder

    folder = tmp_path_factory.mktemp("autoencoder")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        MaskAutoencoder(num_ids=32, encoder_widths=(8, 8, 8, 16), decoder_width=16, norm_groups=8).save_pretrained(folder)
    return folder


def stage(folder: Path, **changes: Any) -> DiffusionStage:
    return DiffusionStage(validate_config(run_config(folder, **changes)))  # type: ignore[arg-type]


@pytest.mark.slow
def test_samples_are_shared_out_by_weight_and_are_of_their_task(autoencoder: Path) -> None:
    training = stage(autoencoder)
    tasks = [training.tasks.of(0, number) for number in range(1000)]
    assert [tasks.count(task) for task in TASKS] == [500, 250, 250]
    assert tasks[:50] == [training.tasks.of(0, number) for number in range(50)] != [training.tasks.of(1, number) for number in range(50)]
    samples = [training.load_sample(number) for number in range(12)]
    for sample in samples:
        assert sample.task == tasks[sample.number]
        if sample.task != "panoptic":
            target = training.tasks.codecs[sample.task].encode(training.train_data.target(sample.item, sample.task))
            mirrored = np.array_equal(sample.ids, target[:, ::-1])
            assert (mirrored or np.array_equal(sample.ids, target)) and not sample.known.any()
    batch = training.collate(samples)
    assert batch.tasks == tuple(tasks[:12])
    seen: list[torch.Tensor] = []
    training.denoiser.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs["condition"].tokens), with_kwargs=True)
    training.train()(batch)["loss"].backward()
    assert torch.equal(seen[-1], training.descriptor(12, tasks=batch.tasks))  # none was dropped
    assert training.descriptor.query_tokens.grad.flatten(1).any(1).all()


@pytest.mark.slow
def test_a_cache_keeps_the_tasks_of_an_item_apart(autoencoder: Path) -> None:
    plain, cached = (
        stage(autoencoder, id_policy="spatial", cache=cache, data={**run_config(autoencoder)["data"], "flip": False})
        for cache in (False, True)
    )
    for number in (*range(16), *range(16)):
        one, other = plain.load_sample(number), cached.load_sample(number)
        if one.task != "panoptic":
            assert one.task == other.task and np.array_equal(one.ids, other.ids)


@pytest.mark.slow
def test_a_run_measures_every_task_and_ends_with_a_model_of_them(autoencoder: Path, tmp_path: Path) -> None:
    config = validate_config(run_config(autoencoder))
    exported = train(DiffusionStage(config), config, tmp_path / "run")  # type: ignore[arg-type]
    figures = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"val_pq", "val_miou", "val_abs_rel", "val_delta1"} <= figures.keys()
    pipe = LDMSegPipeline.from_pretrained(exported)
    assert pipe.tasks == TASKS and pipe.codecs["depth"].settings()["bins"] == 8
    again = DiffusionStage(
        validate_config(
            {**run_config(autoencoder), "init": str(exported), "denoiser": {}, "tasks": {"panoptic": 1, "depth": 3, "semantic": 1}}
        )
    )
    assert again.descriptor.tasks == TASKS
    left_open = {key: value for key, value in run_config(autoencoder).items() if key not in ("tasks", "depth", "denoiser")}
    kept = DiffusionStage(validate_config({**left_open, "init": str(exported)}))  # type: ignore[arg-type]
    assert kept.config.tasks == dict.fromkeys(TASKS, 1.0) and kept.config.depth.bins == 8
    for changes, message in (
        ({"tasks": {"panoptic": 1}}, "tasks: expected panoptic, semantic, depth, which the model in"),
        ({"depth": {"bins": 9}}, "depth.bins: expected 8, which the model in .* was trained with, got 9"),
    ):
        with pytest.raises(InputError, match=f"^{message}"):
            DiffusionStage(validate_config({**run_config(autoencoder), "init": str(exported), "denoiser": {}, **changes}))  # type: ignore[arg-type]


def test_a_model_of_segments_learns_other_tasks(tmp_path: Path, autoencoder: Path) -> None:
    from ldmseg.models.mask_autoencoder import MaskAutoencoder

    base = build_tiny()
    parts = {**base.components, "mask_autoencoder": MaskAutoencoder.from_pretrained(autoencoder)}
    LDMSegPipeline(**parts, image_size=32, id_policy="spatial").save_pretrained(tmp_path / "start")
    values = {key: value for key, value in run_config(autoencoder).items() if key not in ("denoiser", "autoencoder")}
    fine = DiffusionStage(validate_config({**values, "init": str(tmp_path / "start")}))  # type: ignore[arg-type]
    assert fine.descriptor.tasks == TASKS and fine.denoiser.config["cross_attention_dim"] == WIDTH
    assert fine.pipeline().tasks == TASKS
    with pytest.raises(InputError, match=r"descriptors.kind: expected learned with several tasks \(panoptic, semantic, depth\), got None"):
        validate_config({**values, "descriptors": {}})


@pytest.mark.slow
def test_segments_alone_are_trained_as_before(autoencoder: Path) -> None:
    """One task has no tokens, and its samples do not depend on there being others."""
    alone = stage(autoencoder, tasks={"panoptic": 1}, descriptors={})
    usual = stage(autoencoder, tasks={"panoptic": 5.0}, descriptors={})
    assert alone.descriptor is None and alone.pipeline().config["tasks"] is None
    for number in range(6):
        one, other = alone.load_sample(number), usual.load_sample(number)
        assert np.array_equal(one.ids, other.ids) and np.array_equal(one.known, other.known)


def test_what_a_task_needs_is_checked_before_training(autoencoder: Path, tmp_path: Path) -> None:
    done_ = load_dataset("scenes:2", size=32)
    from ldmseg.formats.coco_panoptic_writer import CocoPanopticWriter

    with CocoPanopticWriter(tmp_path / "set.json", done_.categories) as writer:
        writer.add("a.png", 1, done_.map(0))
    data = {**run_config(autoencoder)["data"], "train": f"coco-panoptic:{tmp_path / 'set.json'}"}
    with pytest.raises(InputError, match=r"^data: expected a data set with depth for the task depth"):
        stage(autoencoder, data=data)
    mixed = {**data, "train": [{"data": "scenes:2"}, {"data": "scenes:2-4"}]}
    with pytest.raises(InputError, match=r"^tasks: expected data.train with one list of categories for the task semantic"):
        stage(autoencoder, data=mixed)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tasks={}", "tasks"),
        ("tasks={flow: 1}", "tasks"),
        ("tasks={panoptic: 0}", "tasks"),
        ("depth.near=20", "depth: far: expected above near"),
        ("descriptors.kind=null", "descriptors.kind: expected learned with several tasks"),
    ],
)
def test_configurations_that_cannot_be(override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_config("scenes-tasks", [override])


# ------------------------------------------------------------------------------------------------------------------------ evaluation
@pytest.mark.slow
def test_each_task_has_its_figures() -> None:
    pipe, data = pipeline(), load_dataset("scenes:2:val", size=32)
    segments, categories = evaluate_task(pipe, data, "panoptic", num_inference_steps=1), evaluate_task(pipe, data, "semantic")
    assert segments.quality == evaluate(pipe, data, num_inference_steps=1).quality and segments.settings["num_inference_steps"] == 1
    assert isinstance(categories.quality, SemanticQuality) and 0 <= categories.quality.miou <= 1
    assert categories.to_dict()["task"] == "semantic" and categories.to_dict()["images"] == 2
    with pytest.raises(InputError, match="prediction: expected the target's size and unit"):
        evaluate_task(pipe, data, "depth")  # this model's depth is in miles
    with pytest.raises(InputError, match=r"^task: expected panoptic, which this model draws, got 'depth'"):
        evaluate_task(build_tiny(), data, "depth")
    with pytest.raises(InputError, match=r"^limit, batch_size: expected at least 1, got 0"):
        evaluate_task(pipe, data, "semantic", limit=0)


# ------------------------------------------------------------------------------------------------------------------ the command line
@pytest.mark.slow
def test_tasks_on_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model, picture, out = tmp_path / "model", tmp_path / "a.png", tmp_path / "out"
    pipeline().save_pretrained(model)
    Image.fromarray((photo().movedim(0, -1).numpy() * 255).astype(np.uint8)).save(picture)
    common = (picture, "--model", model, "--device", "cpu", "-o", out)
    told = done(capsys, "segment", *common, "--task", "depth", "--json").json()
    assert (
        told["task"] == "depth"
        and told["depth"] == str(out / "depth.json")
        and json.loads((out / "depth.json").read_text())["unit"] == "miles"
    )
    depth = read_depth_png(out / "a.png", "miles")
    assert depth.shape == (40, 30) and depth.values.min() >= 1 and Image.open(out / "a_overlay.png").size == (30, 40)
    assert not (out / "panoptic.json").exists()
    done(capsys, "segment", *common[:-1], tmp_path / "s", "--task", "semantic")
    listed = json.loads((tmp_path / "s" / "panoptic.json").read_text())
    assert {s["category_id"] for s in listed["annotations"][0]["segments_info"]} <= {3, 6, 9, 12, 15} and len(listed["categories"]) == 5
    build_tiny().save_pretrained(tmp_path / "plain")
    plain = (picture, "--model", tmp_path / "plain", "--device", "cpu", "-o", tmp_path / "no")
    assert refused(capsys, "segment", *plain, "--task", "depth") == "task: expected panoptic, which this model draws, got 'depth'"
    assert not (tmp_path / "no").exists()
    assert done(capsys, "info", model, "--json").json()["model"]["tasks"] == list(TASKS)


@pytest.mark.slow
def test_evaluation_of_a_task_on_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pipeline().save_pretrained(tmp_path / "model")
    common = ("evaluate", "--data", "scenes:2:val", "--model", tmp_path / "model", "--device", "cpu")
    assert {"miou", "accuracy", "iou"} <= done(capsys, *common, "--task", "semantic", "--json").json().keys()
    assert "mIoU" in done(capsys, *common, "--task", "semantic").out
    assert "PQ" in done(capsys, *common, "--task", "panoptic").out
    for option in (("--inpaint",), ("--class-aware",), ("--drop-rate", 0.5), ("--segmenter", "slic"), ("--output", tmp_path / "out")):
        assert refused(capsys, *common, "--task", "depth", *option) == f"--task: expected without {option[0]}, got both"
    assert not (tmp_path / "out").exists()


# ----------------------------------------------------------------------------------------------------------------- what is learned
@pytest.mark.slow
@pytest.mark.long
def test_a_trained_model_obeys_its_tokens(tmp_path: Path) -> None:
    """A small model that knows six scenes by heart: with the tokens exchanged it draws another task, and the figures collapse."""
    values = {
        **run_config(Path("unused")),
        "autoencoder": "default",
        "id_policy": "spatial",
        "cache": True,
        "data": {"train": "scenes:6", "val": "scenes:2:val", "size": 64, "scene_segments": [3, 5], "flip": False},
        "denoiser": {"source": "small", "partial": False, "self_condition": False},
        "image_encoder": {"latent_channels": 32, "widths": [16, 32]},
        "tasks": {"panoptic": 1, "semantic": 1, "depth": 1},
        "depth": {},
        "schedule": {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "sample"},
        "loss": {"weight": "none"},
        "optim": {"batch_size": 9, "steps": 260, "lr": 1e-3, "warmup": 20, "decay": "cosine", "ema": 0.95, "precision": "fp32"},
        "validation": {"samples": 0, "every": 260, "limit": 1},
        "checkpoint": {"every": 260},
    }
    config = validate_config(values)
    pipe = LDMSegPipeline.from_pretrained(train(DiffusionStage(config), config, tmp_path / "run"))  # type: ignore[arg-type]
    pipe.set_progress_bar_config(disable=True)
    data = load_dataset("scenes:6", size=64, segments=(3, 5))

    def figures(model: LDMSegPipeline) -> tuple[float, float]:
        semantic, depth = (evaluate_task(model, data, task, num_inference_steps=4).quality for task in ("semantic", "depth"))
        assert isinstance(semantic, SemanticQuality) and isinstance(depth, DepthQuality)
        return semantic.miou, depth.abs_rel

    miou, abs_rel = figures(pipe)
    other = copy.deepcopy(pipe.descriptor)
    with torch.no_grad():
        other.query_tokens.copy_(pipe.descriptor.query_tokens.roll(1, 0))
    pipe.register_modules(descriptor=other)
    wrong_miou, wrong_abs_rel = figures(pipe)
    assert miou > 0.6 and abs_rel < 0.25
    assert wrong_miou < 0.3 * miou and wrong_abs_rel > 2 * abs_rel

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from naming import CATEGORIES, SCENES, SMALL, build_named
from tiny import build_tiny

from ldmseg import LDMSegPipeline
from ldmseg.errors import InputError
from ldmseg.models.backbone_encoder import BackboneImageEncoder
from ldmseg.models.classifier import SegmentClassifier, segment_means

ENTRIES = [category.to_dict() for category in CATEGORIES]


def test_the_mean_of_a_segment_is_that_of_its_pixels() -> None:
    logits = torch.randn(2, 3, 4, 4)
    covered = torch.zeros(2, 2, 4, 4)
    covered[:, 0, 0, :2] = torch.tensor([1.0, 0.5])
    means = segment_means(logits, covered)
    torch.testing.assert_close(means[:, 0], (logits[:, :, 0, 0] + 0.5 * logits[:, :, 0, 1]) / 1.5)
    assert (means[:, 1] == 0).all()  # no pixel
    torch.testing.assert_close(segment_means(logits[0], covered[0]), means[0])


def test_a_photos_logits_do_not_depend_on_its_batch_and_see_the_whole_photo() -> None:
    torch.manual_seed(0)
    net = SegmentClassifier(ENTRIES, (6, 5), 4, **{**SMALL, "rates": (6, 12, 18)}).eval()
    photos, features = torch.randn(2, 3, 64, 64), [torch.randn(2, 6, 16, 16), torch.randn(2, 5, 8, 8)]
    logits = net(photos, features)
    assert tuple(logits.shape) == (2, len(CATEGORIES), 16, 16)
    torch.testing.assert_close(net(photos[:1], [f[:1] for f in features]), logits[:1], atol=1e-5, rtol=1e-4)
    changed = [features[0].clone(), features[1]]
    changed[0][0, :, 15, 15] += 1
    assert (net(photos, changed)[0, :, 0, 0] != logits[0, :, 0, 0]).all()  # through the pooling of the image
    assert torch.equal(net(photos, changed)[1], logits[1])


def test_rates_are_those_of_the_pyramid() -> None:
    """One branch alone: cells at a distance of the rate, and no other, change with a cell."""
    net = SegmentClassifier(ENTRIES, (1,), 8, width=8, stem_widths=(), rates=(6, 12, 18))
    convs = [branch[0] for branch in net.pyramid.branches]
    assert [(c.kernel_size, c.dilation) for c in convs] == [((1, 1), (1, 1)), *(((3, 3), (r, r)) for r in (6, 12, 18))]
    x = torch.zeros(1, convs[1].in_channels, 20, 20)
    x[..., 10, 10] = 1
    touched = convs[1](x)[0].abs().sum(0).nonzero().tolist()
    assert touched == [[r, c] for r in (4, 10, 16) for c in (4, 10, 16)]


@pytest.mark.parametrize("size", [64, 60])
def test_with_a_backbone_it_reads_the_backbone_alone(size: int) -> None:
    """What is trained with the denoiser, stem and adapter, has no part in the logits."""
    torch.manual_seed(0)
    encoder = BackboneImageEncoder({"kind": "efficientnet-lite0"}, {"latent_channels": 8, "widths": (8, 16)}, adapter_channels=16).eval()
    assert (encoder.feature_channels, encoder.feature_cell) == ((40, 112, 320), 4)
    net = SegmentClassifier(ENTRIES, encoder.feature_channels, encoder.feature_cell, **SMALL).eval()
    photos = torch.rand(1, 3, 2 * size, 2 * size) * 2 - 1
    logits = net.of_photos(encoder, photos)
    assert logits.shape[-2:] == (size // 4, size // 4)
    for part in (encoder.stem, encoder.adapter):
        for weight in part.parameters():
            torch.nn.init.normal_(weight)
    assert torch.equal(net.of_photos(encoder, photos), logits)
    if size == 64:  # cached features and a reduced photo give the same
        reduced = torch.nn.functional.avg_pool2d(photos, 2)
        assert torch.equal(net.of_photos(encoder, reduced, encoder.features(photos)), logits)


@pytest.mark.slow
def test_saved_with_its_pipeline_and_loaded_with_it(tmp_path: Path) -> None:
    pipe = build_named()
    pipe.save_pretrained(tmp_path / "model")
    assert "classifier/config.json" in json.loads((tmp_path / "model/manifest.json").read_text())["files"]
    loaded = LDMSegPipeline.from_pretrained(tmp_path / "model")
    loaded.set_progress_bar_config(disable=True)
    assert loaded.classifier is not None and loaded.classifier.categories == pipe.classifier.categories  # type: ignore[union-attr]
    assert [(c.id, c.name, c.isthing) for c in loaded.classifier.categories] == [(c.id, c.name, c.isthing) for c in CATEGORIES]
    image = SCENES.image(0)
    first, again = (p(image, generator=torch.Generator().manual_seed(0)) for p in (pipe, loaded))
    assert first.maps[0] == again.maps[0] and again.categories == loaded.classifier.categories

    weights = next((tmp_path / "model/classifier").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(InputError, match=r"classifier.*is not the file that was exported"):
        LDMSegPipeline.from_pretrained(tmp_path / "model")


def test_a_pipeline_without_one_loads_as_before(tmp_path: Path) -> None:
    build_tiny().save_pretrained(tmp_path / "model")
    index = tmp_path / "model/model_index.json"
    values = json.loads(index.read_text())
    del values["classifier"]  # as an older version saved it
    index.write_text(json.dumps(values))
    (tmp_path / "model/manifest.json").unlink()
    assert LDMSegPipeline.from_pretrained(tmp_path / "model").classifier is None


def test_mistakes() -> None:
    for settings, message in (
        ({"categories": []}, "categories: expected at least one"),
        ({"categories": [ENTRIES[0], ENTRIES[0]]}, "categories: .* each id once"),
        ({"width": 12}, "width: expected a multiple of 8, got 12"),
    ):
        with pytest.raises(InputError, match=message):
            SegmentClassifier(**{"categories": ENTRIES, "feature_channels": (4,), "cell": 8, **settings})  # type: ignore[arg-type]
    pipe = build_tiny()
    parts = {**pipe.components, "classifier": SegmentClassifier(ENTRIES, (40, 112), 4, **SMALL)}
    with pytest.raises(InputError, match=r"classifier: expected an image encoder with features of 40, 112 channels, 4 pixels a cell, got"):
        LDMSegPipeline(**parts)

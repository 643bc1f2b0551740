from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ldmseg.training.losses.points import point_losses, read_bilinear, read_nearest, uncertain_points


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(i) for i in range(count)]


def perfect(ids: torch.Tensor, num_ids: int) -> torch.Tensor:
    return (F.one_hot(ids, num_ids).movedim(-1, 1).float() * 2 - 1) * 30


def test_perfect_logits_cost_nothing_and_wrong_ones_do() -> None:
    ids = torch.ones(2, 32, 32, dtype=torch.long)
    ids[:, 16:] = 2
    logits = perfect(ids, 8)
    good = point_losses(logits, ids, 64, generators(2))
    assert float(good.ce) < 0.2  # only between two pixels
    bad = point_losses(-logits, ids, 64, generators(2))
    assert float(bad.ce) > 5
    assert float(bad.bce) > 5
    assert float(bad.dice) > 0.5


def test_void_costs_nothing() -> None:
    ids = torch.zeros(1, 16, 16, dtype=torch.long)
    ids[:, :8] = 3
    logits = perfect(torch.full((1, 16, 16), 3), 8)
    assert float(point_losses(logits, ids, 256, generators(1)).ce) < 1e-6


def test_no_mask_at_all_has_zero_loss_and_a_gradient() -> None:
    logits = torch.randn(2, 8, 4, 4, requires_grad=True)
    losses = point_losses(logits, torch.zeros(2, 8, 8, dtype=torch.long), 16, generators(2))
    (losses.ce + losses.bce + losses.dice).backward()
    assert float(losses.ce) == float(losses.bce) == float(losses.dice) == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_every_id_at_once() -> None:
    ids = torch.arange(1, 8).repeat_interleave(8)[None, None].expand(1, 8, 56)
    losses = point_losses(torch.randn(1, 8, 4, 28), ids, 32, generators(1))
    assert all(torch.isfinite(x) and x > 0 for x in (losses.ce, losses.bce, losses.dice))


def test_every_image_counts_the_same() -> None:
    """Images with one mask, two masks, much void and nothing but void: their batch is the mean of them alone."""
    ids = torch.ones(4, 8, 8, dtype=torch.long)
    ids[1, :, 4:], ids[2, :, 1:], ids[3] = 5, 0, 0
    logits = torch.randn(4, 8, 8, 8, generator=torch.Generator().manual_seed(3))
    together = point_losses(logits, ids, 64, generators(4))
    alone = [point_losses(logits[i : i + 1], ids[i : i + 1], 64, [torch.Generator().manual_seed(i)]) for i in range(4)]
    for name in ("ce", "bce", "dice"):
        assert float(getattr(together, name)) == pytest.approx(sum(float(getattr(one, name)) for one in alone) / 4, rel=1e-5), name


def test_uncertain_points_lie_at_the_boundary() -> None:
    ramp = torch.linspace(-1, 1, 64)[None, None, None].expand(1, 1, 64, 64)
    random = torch.rand(1, 300 + 25, 2, generator=torch.Generator().manual_seed(0))
    points = uncertain_points(ramp, random, 100, lambda c: -c[:, 0].abs(), oversample=3, importance=0.75)
    assert points.shape == (1, 100, 2)
    assert ((points[0, :75, 0] - 0.5).abs() < 0.2).all()
    assert ((points[0, 75:, 0] - 0.5).abs() > 0.2).any()


def test_reading_agrees_with_upsampling() -> None:
    values = torch.randn(1, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    up = F.interpolate(values, scale_factor=2, mode="bilinear", align_corners=False)
    x, y = torch.meshgrid((torch.arange(14) + 0.5) / 14, (torch.arange(10) + 0.5) / 10, indexing="xy")
    points = torch.stack([x.flatten(), y.flatten()], -1)[None]
    assert torch.allclose(read_bilinear(values, points), up.flatten(2), atol=1e-5)
    ids = torch.randint(0, 9, (1, 10, 14))
    assert torch.equal(read_nearest(ids, points), ids.flatten(1))

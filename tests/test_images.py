from __future__ import annotations

import numpy as np
import pytest
import torch

from ldmseg import images
from ldmseg.images import image_batch


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
@pytest.mark.parametrize("height, width", [(50, 70), (7, 90), (90, 7), (32, 32), (3, 5)])
def test_a_photo_in_bands_is_the_photo_at_once(height: int, width: int, kind: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)).movedim(-1, 0)
    photo = photo if kind == torch.uint8 else photo / 255
    floats = photo.float() / (255 if kind == torch.uint8 else 1)
    whole = torch.nn.functional.interpolate(floats[None], size=(32, 32), mode="bilinear", antialias=True, align_corners=False)
    for rows in (1, 8, 1000):
        monkeypatch.setattr(images, "_BAND", 3 * width * rows)
        assert image_batch([photo], 32) == pytest.approx((whole * 2 - 1).numpy(), abs=1e-5)

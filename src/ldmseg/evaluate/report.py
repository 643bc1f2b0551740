"""What an evaluation returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ldmseg.metrics.panoptic_quality import PanopticQualityResult


@dataclass(frozen=True)
class EvaluationReport:
    """Quality over a data set, and how it was measured."""

    quality: PanopticQualityResult
    images: int
    seconds_per_image: float
    settings: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """One JSON object: the metric's groups, then `images`, `seconds_per_image` and `settings`."""
        return {
            **self.quality.to_dict(),
            "images": self.images,
            "seconds_per_image": round(self.seconds_per_image, 4),
            "settings": self.settings,
        }

"""Published set-prediction networks as segmenters, through transformers: Mask2Former, the paper's baseline (section B), and EoMT."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ldmseg.errors import InputError, quoted
from ldmseg.formats.coco_json import Category
from ldmseg.models.clip import import_transformers, quiet
from ldmseg.models.pretrained import LISTED, Pretrained, find_pretrained
from ldmseg.panoptic import PanopticMap
from ldmseg.segmenters.base import Photo, check_unaided
from ldmseg.segmenters.queries import QueryThresholds, likely_queries, queries_to_map

QueryKind = Literal["mask2former", "eomt"]
"""`mask2former` is Cheng et al. 2022; `eomt` queries in a plain ViT (Kerssies et al. 2025), on DINOv2 or DINOv3."""

CLASSES: dict[str, str] = {
    "mask2former": "Mask2FormerForUniversalSegmentation",
    "eomt": "EomtForUniversalSegmentation",
    "eomt_dinov3": "EomtDinov3ForUniversalSegmentation",
}
"""The class in transformers of each `model_type` of a config."""

COCO_CLASSES, COCO_THINGS = 133, 80
"""COCO's panoptic classes, and how many of them are things, which come first (Kirillov et al. 2019; every published COCO model)."""

WITHOUT_WEIGHTS = re.compile(r"(^|\.)(relative_position_index|num_batches_tracked|position_ids)$")
"""Buffers that some versions of transformers saved and others compute."""


@dataclass(frozen=True)
class Preparation:
    """How a photo becomes the network's input; from the checkpoint's `preprocessor_config.json`.

    Attributes:
        mean, std: of each colour in 0..1.
        edges: (shorter, longer) sides: the shorter one becomes the first, unless the longer one would be above the second.
        square: (height, width) in place of `edges`.
        divisor: both sides are rounded up to its multiples; the photo is scaled, not padded.
        pad: whether black is added at the bottom and the right, up to `edges`.

    Raises:
        InputError: neither or both of `edges` and `square`.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    edges: tuple[int, int] | None = None
    square: tuple[int, int] | None = None
    divisor: int = 1
    pad: bool = False

    def __post_init__(self) -> None:
        if (self.edges is None) == (self.square is None) or (self.pad and self.edges is None):
            raise InputError(f"size: expected the edges or, without padding, a height and width, got {self.edges} and {self.square}")

    @classmethod
    def of(cls, settings: Mapping[str, Any], where: str) -> Self:
        """From the settings of an image processor of transformers.

        Raises:
            InputError: it has a size of another kind, or cuts photos into pieces as checkpoints for semantic segmentation do.
        """
        if settings.get("do_split_image"):
            raise InputError(f"segmenter: expected a panoptic checkpoint in {where}, got one that cuts photos into pieces (do_split_image)")
        size = settings.get("size")
        size = {"shortest_edge": size, "longest_edge": settings.get("max_size")} if isinstance(size, int) else dict(size or {})
        shorter, longer = size.get("shortest_edge"), size.get("longest_edge")
        edges = None if shorter is None else (int(shorter), int(longer or 10**9))
        square = (int(size["height"]), int(size["width"])) if size.get("height") and size.get("width") else None
        if (edges is None) == (square is None):
            raise InputError(
                f"segmenter: expected a size with shortest_edge, or with height and width, in {where}, got {quoted(str(size))}"
            )
        mean, std = (tuple(float(v) for v in settings[key]) for key in ("image_mean", "image_std"))
        return cls(mean, std, edges, square, int(settings.get("size_divisor") or 1), bool(settings.get("do_pad") and longer and edges))

    def scaled(self, height: int, width: int) -> tuple[int, int]:
        """The size that a photo is scaled to."""
        if self.square is not None:
            size = self.square
        else:
            assert self.edges is not None
            (small, large), exact = sorted((height, width)), float(self.edges[0])
            if large / small * exact > self.edges[1]:
                exact = self.edges[1] * small / large
            short, long = round(exact), int(exact * large / small)
            if small == short:
                short, long = small, large
            size = (long, short) if width < height else (short, long)
        rounded = tuple(math.ceil(side / self.divisor) * self.divisor for side in size)
        return rounded[0], rounded[1]

    def pixels(self, photo: NDArray[np.uint8]) -> tuple[Tensor, tuple[int, int]]:
        """(H, W, 3) -> (1, 3, H', W') the network's input, and (h, w) how much of it is photo."""
        height, width = self.scaled(*photo.shape[:2])
        scaled = np.asarray(Image.fromarray(photo).resize((width, height), Image.Resampling.BILINEAR))
        pixels = torch.from_numpy(np.moveaxis(scaled, -1, 0).copy()).float()
        if self.pad:
            assert self.edges is not None
            pixels = F.pad(pixels, (0, max(0, self.edges[1] - width), 0, max(0, self.edges[0] - height)))
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.mean, self.std))
        return ((pixels / 255 - mean) / std)[None], (height, width)


class QuerySegmenter:
    """A Mask2Former or an EoMT as a segmenter, of whole photos only; it is deterministic.

    Photos run one at a time, so none is padded for another. Categories are those of a data set: by the names of the model's classes where
    all of them are there, else by the order, where there are as many. Otherwise segments have none.

    Args:
        name: for reports.
        network: of `CLASSES`, in evaluation mode on its device.
        preparation: of photos.
        categories: of the data set.
        thresholds: which queries become segments.
    """

    def __init__(
        self,
        name: str,
        network: Any,
        preparation: Preparation,
        categories: Sequence[Category] = (),
        thresholds: QueryThresholds | None = None,
    ) -> None:
        self.name, self.network, self.preparation = name, network, preparation
        self.thresholds = thresholds or QueryThresholds()
        labels = [str(network.config.id2label[index]) for index in range(len(network.config.id2label))]
        self.categories = match_categories(labels, categories)
        self.stuff = stuff_classes(len(labels), self.categories)

    @classmethod
    def from_pretrained(
        cls,
        kind: QueryKind,
        source: str,
        *,
        device: torch.device | str = "cpu",
        categories: Sequence[Category] = (),
        thresholds: QueryThresholds | None = None,
    ) -> Self:
        """A checkpoint from a folder or the Hub, loaded strictly: every weight is accounted for.

        Args:
            kind: which network is expected there.
            source: a folder with `config.json`, weights and `preprocessor_config.json`, or a Hub id.
            device: see `resolve_device`.
            categories: of the data set, see the class.
            thresholds: see the class.

        Raises:
            InputError: transformers is not installed, nothing of that kind is there, or weights are missing or left over.
        """
        transformers = import_transformers("segmenter", kind, "segmenters")
        saved = find_pretrained(source, ())
        found = saved.config.get("model_type")
        if found not in (kind, f"{kind}_dinov3") or found not in CLASSES:
            raise InputError(f"segmenter: expected a model of type {kind} in {saved}, got {found or 'no model_type'}")
        network = _load(getattr(transformers, CLASSES[found]), saved)
        try:
            settings, _ = transformers.ImageProcessingMixin.get_image_processor_dict(saved.root)
            preparation = Preparation.of(settings, str(saved))
        except (OSError, KeyError, ValueError, TypeError) as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise InputError(f"segmenter: expected a preprocessor_config.json with size and colours in {saved}, got {reason}") from error
        return cls(f"{kind}:{source}", network.to(device), preparation, categories, thresholds)

    @property
    def settings(self) -> dict[str, Any]:
        """What the maps depend on beside the weights, in plain values, for reports."""
        return {"segmenter": self.name, **asdict(self.thresholds)}

    @torch.no_grad()
    def __call__(
        self,
        images: Sequence[Photo],
        partials: Sequence[PanopticMap] | None,
        seeds: Sequence[int],
        captions: Sequence[str] | None = None,
    ) -> list[PanopticMap]:
        check_unaided(partials, self.name)
        return [self._segment(image) for image in images]

    def _segment(self, image: Photo) -> PanopticMap:
        pixels, (height, width) = self.preparation.pixels(image)
        like = next(self.network.parameters())
        outputs = self.network(pixels.to(like.device, like.dtype))
        classes = outputs.class_queries_logits[0].float()  # (Q, K + 1)
        kept = likely_queries(classes, self.thresholds)
        masks = outputs.masks_queries_logits[0][kept].float()  # (Q', h, w) of the whole input
        if len(kept):
            masks = F.interpolate(masks[None], size=tuple(pixels.shape[-2:]), mode="bilinear", align_corners=False)[0]
        shape = (image.shape[0], image.shape[1])
        drawn = queries_to_map(classes[kept], masks[:, :height, :width], shape, self.thresholds, self.stuff)
        return PanopticMap(drawn.ids, tuple(replace(s, **self._category(s.category_id)) for s in drawn.segments))

    def _category(self, label: int | None) -> dict[str, Any]:
        if not self.categories or label is None:
            return {"category_id": None}
        return {"category_id": self.categories[label].id, "isthing": self.categories[label].isthing}


def match_categories(labels: Sequence[str], categories: Sequence[Category]) -> tuple[Category, ...]:
    """The data set's category of each of a model's classes; () where they do not fit."""
    by_name = {category.name: category for category in categories}
    if labels and all(label in by_name for label in labels):
        return tuple(by_name[label] for label in labels)
    return tuple(categories) if len(categories) == len(labels) else ()


def stuff_classes(count: int, categories: Sequence[Category]) -> Collection[int]:
    """The class indices that are stuff: by the categories, else those of COCO where there are as many classes as in COCO."""
    if categories:
        return frozenset(index for index, category in enumerate(categories) if category.isthing is False)
    return frozenset(range(COCO_THINGS, COCO_CLASSES)) if count == COCO_CLASSES else frozenset()


def _load(model_class: Any, saved: Pretrained) -> Any:
    """
    Raises:
        InputError: it cannot be loaded, or weights are missing, left over or of another shape; the keys are listed.
    """
    try:
        with quiet():
            model, info = model_class.from_pretrained(saved.root, output_loading_info=True)
    except Exception as error:  # transformers, safetensors and the Hub's client raise many unrelated types
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise InputError(f"segmenter: expected weights of {model_class.__name__} in {saved}, got {reason}") from error
    for kind in ("missing", "unexpected", "mismatched"):
        found = (key if isinstance(key, str) else key[0] for key in info[f"{kind}_keys"])
        keys = sorted(key for key in found if not WITHOUT_WEIGHTS.search(key))
        if keys:
            rest = f" and {len(keys) - LISTED} more" if len(keys) > LISTED else ""
            expected = f"exactly the weights of {model_class.__name__} in {saved}"
            raise InputError(f"segmenter: expected {expected}, got {len(keys)} {kind}: {', '.join(keys[:LISTED])}{rest}")
    return model.eval()

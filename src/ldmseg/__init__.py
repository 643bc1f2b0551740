"""Panoptic segmentation and mask completion by latent diffusion."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Names load their module on first use, so that `ldmseg --help` and the numpy-only parts never import torch.
_HOMES = {
    "AveragePrecision": "ldmseg.metrics.average_precision",
    "BackboneImageEncoder": "ldmseg.models.backbone_encoder",
    "ClipImageDescriptor": "ldmseg.models.descriptors",
    "ClipTextDescriptor": "ldmseg.models.descriptors",
    "ConvImageEncoder": "ldmseg.models.image_encoder",
    "Denoiser": "ldmseg.models.denoiser",
    "FrozenImageEncoder": "ldmseg.models.image_encoder",
    "ImageEncoder": "ldmseg.models.image_encoder",
    "InferenceOptions": "ldmseg.options",
    "LDMSegPipeline": "ldmseg.pipeline",
    "LearnedDescriptor": "ldmseg.models.descriptors",
    "MaskAutoencoder": "ldmseg.models.mask_autoencoder",
    "NoiseSchedule": "ldmseg.diffusion.schedule",
    "OpenVocabulary": "ldmseg.models.open_vocabulary",
    "PanopticMap": "ldmseg.panoptic",
    "PanopticQuality": "ldmseg.metrics.panoptic_quality",
    "Segment": "ldmseg.panoptic",
    "SegmentClassifier": "ldmseg.models.classifier",
    "Segmenter": "ldmseg.segmenters.base",
    "Thresholds": "ldmseg.options",
    "VOID": "ldmseg.panoptic",
    "VaeMaskAutoencoder": "ldmseg.models.vae_mask_autoencoder",
    "build_denoiser": "ldmseg.models.denoiser",
    "decode_ids": "ldmseg.codes",
    "encode_ids": "ldmseg.codes",
    "load_config": "ldmseg.config",
    "load_dataset": "ldmseg.data.datasets",
    "sample": "ldmseg.diffusion.sampler",
}
__all__ = [
    "VOID",
    "AveragePrecision",
    "BackboneImageEncoder",
    "ClipImageDescriptor",
    "ClipTextDescriptor",
    "ConvImageEncoder",
    "Denoiser",
    "FrozenImageEncoder",
    "ImageEncoder",
    "InferenceOptions",
    "LDMSegPipeline",
    "LearnedDescriptor",
    "MaskAutoencoder",
    "NoiseSchedule",
    "OpenVocabulary",
    "PanopticMap",
    "PanopticQuality",
    "Segment",
    "SegmentClassifier",
    "Segmenter",
    "Thresholds",
    "VaeMaskAutoencoder",
    "__version__",
    "build_denoiser",
    "decode_ids",
    "encode_ids",
    "load_config",
    "load_dataset",
    "sample",
]
# diffusers searches its base classes in the package that a saved pipeline names, to find out how its components are loaded.
_BASES = {"ModelMixin": "diffusers", "SchedulerMixin": "diffusers"}

if TYPE_CHECKING:
    from ldmseg.codes import decode_ids, encode_ids
    from ldmseg.config import load_config
    from ldmseg.data.datasets import load_dataset
    from ldmseg.diffusion.sampler import sample
    from ldmseg.diffusion.schedule import NoiseSchedule
    from ldmseg.metrics.average_precision import AveragePrecision
    from ldmseg.metrics.panoptic_quality import PanopticQuality
    from ldmseg.models.backbone_encoder import BackboneImageEncoder
    from ldmseg.models.classifier import SegmentClassifier
    from ldmseg.models.denoiser import Denoiser, build_denoiser
    from ldmseg.models.descriptors import ClipImageDescriptor, ClipTextDescriptor, LearnedDescriptor
    from ldmseg.models.image_encoder import ConvImageEncoder, FrozenImageEncoder, ImageEncoder
    from ldmseg.models.mask_autoencoder import MaskAutoencoder
    from ldmseg.models.open_vocabulary import OpenVocabulary
    from ldmseg.models.vae_mask_autoencoder import VaeMaskAutoencoder
    from ldmseg.options import InferenceOptions, Thresholds
    from ldmseg.panoptic import VOID, PanopticMap, Segment
    from ldmseg.pipeline import LDMSegPipeline
    from ldmseg.segmenters.base import Segmenter


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name) or _BASES.get(name)
    if home is not None:
        return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'ldmseg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

"""The choices that a configuration, the command line and the library have in common: each stands here once, and needs no torch."""

from __future__ import annotations

from typing import Literal

Sampler = Literal["ddim", "ddpm", "renoise"]
"""How a sampling step continues from a clean estimate: deterministic, ancestral, or with all noise drawn anew (algorithm 3)."""

InpaintMethod = Literal["auto", "condition", "project", "resample", "refine"]
"""How a partial map enters the sampling loop (`LDMSegPipeline.inpaint`)."""

EnsembleFlips = Literal["none", "horizontal", "both"]
"""How the samples of an ensemble mirror the photo: not at all, left to right, or also top to bottom."""

Boundaries = Literal["photo", "drawn"]
"""Where borders of segments lie: where the photo has edges, or where the network drew them."""

OutputType = Literal["panoptic", "np", "pt", "latent"]
"""What a call of the pipeline returns for each image."""

IdPolicy = Literal["random", "spatial"]
"""How segments get the ids that are encoded: at random (the paper), or by their place in the image."""

Prediction = Literal["epsilon", "sample", "v_prediction"]
"""What the network predicts."""

LossWeight = Literal["none", "clamped-snr", "linear", "decay", "fixed"]
"""How the squared error of stage 2 is weighted by the timestep."""

PartialKind = Literal["blocks", "pixels", "points", "strokes", "scanlines", "boxes"]
"""Partial labels that are right where they are and missing elsewhere."""

Code = Literal["bits", "one-hot", "color", "positional"]
"""How an id is written into input channels of the mask autoencoder."""

ArchiveFormat = Literal["coco-panoptic", "webdataset", "parquet"]
"""How `ldmseg label` writes an archive's maps."""

Task = Literal["panoptic", "semantic", "depth"]
"""What a model draws of a photo: its segments, the category of each pixel, or each pixel's distance (`ldmseg.models.targets`)."""

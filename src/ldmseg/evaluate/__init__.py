"""Run a model over a data set and measure it: segmentation, reconstruction, and (in modules of their own) completion and confidence."""

from ldmseg.evaluate.inpainting import CompletionScore, InpaintingReport, evaluate_inpainting
from ldmseg.evaluate.segmentation import EvaluationReport, evaluate, reconstruct

__all__ = ["CompletionScore", "EvaluationReport", "InpaintingReport", "evaluate", "evaluate_inpainting", "reconstruct"]

"""Run a model over a data set and measure it: segmentation, reconstruction, and (in modules of their own) completion and confidence."""

from ldmseg.evaluate.segmentation import EvaluationReport, evaluate, reconstruct

__all__ = ["EvaluationReport", "evaluate", "reconstruct"]

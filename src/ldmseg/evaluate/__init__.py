"""Run a model over a data set and measure it: segmentation, reconstruction, and (in modules of their own) completion and confidence."""

from ldmseg.evaluate.inpainting import CompletionScore, InpaintingReport, evaluate_inpainting
from ldmseg.evaluate.segmentation import EvaluationReport, evaluate, reconstruct
from ldmseg.evaluate.tasks import TaskReport, evaluate_task

__all__ = [
    "CompletionScore",
    "EvaluationReport",
    "InpaintingReport",
    "TaskReport",
    "evaluate",
    "evaluate_inpainting",
    "evaluate_task",
    "reconstruct",
]

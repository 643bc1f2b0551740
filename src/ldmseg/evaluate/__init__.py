"""Run a model over a data set and measure it: segmentation, reconstruction, and (in modules of their own) completion and confidence."""

from ldmseg.evaluate.classes import evaluate_names
from ldmseg.evaluate.inpainting import CompletionScore, InpaintingReport, evaluate_inpainting
from ldmseg.evaluate.report import EvaluationReport
from ldmseg.evaluate.segmentation import evaluate, reconstruct
from ldmseg.evaluate.tasks import TaskReport, evaluate_task

__all__ = [
    "CompletionScore",
    "EvaluationReport",
    "InpaintingReport",
    "TaskReport",
    "evaluate",
    "evaluate_inpainting",
    "evaluate_names",
    "evaluate_task",
    "reconstruct",
]

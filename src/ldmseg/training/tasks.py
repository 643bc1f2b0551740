"""The tasks that a run teaches: how their targets are written, and which of them a sample is of."""

from __future__ import annotations

from typing import Any

from ldmseg.choices import Task
from ldmseg.config import DiffusionRunConfig
from ldmseg.data.datasets import PanopticDataset
from ldmseg.dense import DepthMap
from ldmseg.errors import InputError
from ldmseg.models.targets import TASKS, TargetCodec, build_codecs
from ldmseg.training.dealing import Dealing

_APART = 1 << 32
"""Added to the seed, so that a sample's task does not follow from its data set."""


class TaskMix:
    """The codecs of a run's tasks, and the tasks of its samples, shared out by weight.

    Attributes:
        codecs: by task, in the order of `ldmseg.models.targets.TASKS`.

    Raises:
        InputError: the training data lack what a task needs: categories, or depth.
    """

    def __init__(self, config: DiffusionRunConfig, data: PanopticDataset, num_ids: int) -> None:
        settings = {task: _settings(task, config, data) for task in TASKS if task in config.tasks}
        self.codecs: dict[Task, TargetCodec] = build_codecs(settings, num_ids, config.id_policy)
        self._order = tuple(self.codecs)
        self._dealing = Dealing((1,) * len(self._order), tuple(config.tasks[task] for task in self._order))

    @property
    def settings(self) -> dict[str, dict[str, Any]] | None:
        """What the exported pipeline is told; None for segments alone."""
        return None if self._order == ("panoptic",) else {task: codec.settings() for task, codec in self.codecs.items()}

    def of(self, seed: int, number: int) -> Task:
        """The task of training sample `number`."""
        return self._order[self._dealing.part(seed + _APART, number)]


def _settings(task: Task, config: DiffusionRunConfig, data: PanopticDataset) -> dict[str, Any]:
    if task == "semantic":
        if not data.categories:
            raise InputError("tasks: expected data.train with one list of categories for the task semantic, got several data sets")
        return {"categories": [{"id": c.id, "name": c.name, "isthing": c.isthing} for c in data.categories]}
    if task == "depth":
        first = data.target(0, task)
        assert isinstance(first, DepthMap)
        return {**config.depth.model_dump(), "unit": first.unit}
    return {}

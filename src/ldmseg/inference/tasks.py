"""Which task a call is about, and which options that leaves."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ldmseg.choices import Task
from ldmseg.errors import InputError, quoted
from ldmseg.models.descriptors import Descriptor
from ldmseg.options import InferenceOptions

SEGMENTS_ONLY: dict[str, Any] = {"tile_size": 0.0, "min_component_area": None}
"""Options that make sense for segments alone, and their values for any other task."""


def check_tasks(tasks: Collection[Task], descriptor: Descriptor | None) -> None:
    """Several tasks need a descriptor with tokens for each of them.

    Raises:
        InputError: they do not belong together.
    """
    has = () if descriptor is None else descriptor.tasks
    if set(has) != (set(tasks) if len(tasks) > 1 else set()):
        expected = f"one with tokens for {', '.join(tasks)}" if len(tasks) > 1 else f"one without tasks for the task {next(iter(tasks))}"
        raise InputError(f"descriptor: expected {expected}, got {'one with tokens for ' + ', '.join(has) if has else 'one without tasks'}")


def chosen_task(task: str | None, tasks: Collection[Task]) -> Task:
    """The task that is asked for; left out, segments, or the only thing that the model draws.

    Raises:
        InputError: the model does not have it.
    """
    usual: Task = next(iter(tasks)) if len(tasks) == 1 else "panoptic"
    wanted = usual if task is None else task
    for one in tasks:
        if one == wanted:
            return one
    raise InputError(f"task: expected {' or '.join(tasks)}, which this model draws, got {quoted(wanted)}")


def options_for(task: Task, asked: Mapping[str, Any], defaults: InferenceOptions) -> InferenceOptions:
    """The model's options for a task, before those of the call.

    Raises:
        InputError: the call names an option that the task has no use for.
    """
    if task == "panoptic":
        return defaults
    named = [name for name in SEGMENTS_ONLY if asked.get(name)]
    if named:
        raise InputError(f"{named[0]}: expected none with task {task}, because it is about segments, got {quoted(asked[named[0]])}")
    return defaults.changed(SEGMENTS_ONLY)

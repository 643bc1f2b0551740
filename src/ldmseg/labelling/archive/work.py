"""What all processes of a run have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ldmseg.labelling.archive.job import STATE, Job


@dataclass(frozen=True)
class Work:
    """The folder for the results, the job, and paths that exist as long as the source does."""

    output: Path
    job: Job
    roots: tuple[str, ...] = ()

    @property
    def state(self) -> Path:
        return self.output / STATE

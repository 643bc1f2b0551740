"""Somebody's work in the annotator, as a program that can be killed and goes on where it stopped: `work` does what is left of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ldmseg.annotate.operations import Paint
from ldmseg.annotate.photos import find_photos
from ldmseg.annotate.project import PARTS, Project
from ldmseg.locking import locked

ACTS = 6
"""Steps on each photo; every second one is saved at once, the others are in the journal until then."""


def work(arguments: list[str]) -> int:
    """`PHOTOS PROJECT TOLD`: every act that returned is written to the file TOLD, as the browser would have been answered."""
    photos, folder, told = (Path(argument) for argument in arguments)
    with locked(folder, PARTS), told.open("a") as answers:
        project = Project(folder, find_photos([photos]))
        project.recover()
        for photo in project.photos.values():
            session = project.session(photo.key)
            while session.revision < ACTS:
                height, width = photo.edit_shape
                mask = np.zeros((height, width), dtype=bool)
                mask[session.revision * height // ACTS :] = True
                session.act(Paint(session.revision + 1, mask), session.revision)
                answers.write(f"{photo.stem} {session.revision}\n")
                answers.flush()
                if session.revision % 2 == 0:
                    project.save(photo.key)
            if int(photo.stem[-1]) % 2 and not project.entries[photo.key].finished:
                project.set_finished(photo.key, True)
        project.save_all()
    return 0


def answered(told: Path) -> dict[str, int]:
    """The last revision of each photo that the program was told of."""
    lines = told.read_text().splitlines() if told.is_file() else []
    return {stem: int(revision) for stem, revision in (line.split() for line in lines)}

"""A project on disk: a COCO panoptic data set of the finished photos, one of the drafts, what is pinned, and a journal for each photo.

| in the folder | is |
|---|---|
| `panoptic.json`, `panoptic/<stem>.png` | the data set of the finished photos, as `coco-panoptic:PROJECT` |
| `panoptic_drafts.json` | the same of photos that were begun, as `coco-panoptic:PROJECT:drafts` |
| `images/` | the photos, as hard links where the file system has them, else copies |
| `pins/<stem>.pins.png` | white where a pixel was pinned |
| `annotate.json` | the classes, and which photos are finished |
| `journals/<stem>.journal` | everything that was done to a photo |
"""

from __future__ import annotations

import os
import shutil
import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np
from PIL import Image

from ldmseg.annotate.cells import MAX_ID, ids_of, packed, pins_of, resized, upscaled
from ldmseg.annotate.classes import parse_classes
from ldmseg.annotate.entries import entries_of, read_object
from ldmseg.annotate.history import History
from ldmseg.annotate.operations import State
from ldmseg.annotate.photos import Photo
from ldmseg.annotate.session import PhotoSession
from ldmseg.atomic import atomic_write, check_output_folder, write_json
from ldmseg.errors import InputError
from ldmseg.formats.coco_json import Category
from ldmseg.formats.coco_panoptic_writer import CLASS_AGNOSTIC, CocoPanopticWriter
from ldmseg.formats.label_png import read_label_png
from ldmseg.panoptic import PanopticMap, Segment

PARTS = ("images", "panoptic", "pins", "journals")
"""The folders of a project, whose holder writes in each (`ldmseg.locking.locked`)."""
OPEN = 6
"""Photos whose states are kept in memory."""


class NoPhotoError(Exception):
    """There is no photo of that key."""


class Project:
    """Photos and what was made of them. One process at a time may hold a project (`ldmseg.locking`).

    Args:
        folder: of the project; created when there is something to write.
        photos: its photos.
        classes: what segments may be of; where none are given, those of the project as it is.
        partial: a folder of label PNGs (0: unknown), whose pixels are pinned in photos that were not begun.

    Raises:
        InputError: the folder holds something else or cannot be written to, or a partial map does not fit its photo.
    """

    def __init__(self, folder: Path, photos: Sequence[Photo], classes: Sequence[Category] = (), partial: Path | None = None) -> None:
        check_output_folder(folder)
        self.folder = folder
        self.photos = {photo.key: photo for photo in photos}
        self._partial = partial
        self._lock = threading.RLock()  # of what is in memory
        self._writing = threading.RLock()  # of the files; taken before the other one, never after it
        self._alive: WeakValueDictionary[str, PhotoSession] = WeakValueDictionary()  # so that a photo never has two
        self._recent: OrderedDict[str, PhotoSession] = OrderedDict()
        self._saved: dict[str, int] = {}
        stored = read_object(folder / "annotate.json")
        self.classes = tuple(classes) or parse_classes(stored.get("classes", []))
        self.entries = entries_of(photos, stored.get("photos", {}))
        if partial is not None:
            for photo in photos:
                self._given(photo)
        self._store()

    # ------------------------------------------------------------------------------------------------------------------- reading
    def photo(self, key: str) -> Photo:
        """
        Raises:
            NoPhotoError: there is none.
        """
        if key not in self.photos:
            raise NoPhotoError(key)
        return self.photos[key]

    def session(self, key: str) -> PhotoSession:
        """The states of a photo, read when they are first asked for.

        Raises:
            NoPhotoError: there is none.
            InputError: it or its journal cannot be read.
        """
        photo = self.photo(key)
        with self._lock:
            session = self._alive.get(key)
            if session is None:
                history = History(self.folder / "journals" / f"{photo.stem}.journal", photo.edit_shape)
                session = self._alive[key] = PhotoSession(history, self._given(photo))
            self._recent[key] = session
            self._recent.move_to_end(key)
            unsaved = {key, *self.unsaved()}
            spare = [k for k, other in self._recent.items() if k not in unsaved and not other.awaits]
            for old in spare[: max(0, len(self._recent) - OPEN)]:
                del self._recent[old]
            return session

    def _given(self, photo: Photo) -> State | None:
        if self._partial is None or photo.shape is None:
            return None
        path = self._partial / f"{photo.stem}.png"
        if not path.is_file():
            return None
        pmap = read_label_png(path)
        if pmap.shape != photo.shape:
            (height, width), (got_height, got_width) = photo.shape, pmap.shape
            raise InputError(f"--partial: '{path}': expected {width}x{height}, the size of '{photo.path}', got {got_width}x{got_height}")
        if len(pmap) > MAX_ID:
            raise InputError(f"--partial: '{path}': expected at most {MAX_ID} segments, got {len(pmap)}")
        ids = resized(pmap.dense + 1, photo.edit_shape)
        return State(packed(ids, ids > 0))

    # ------------------------------------------------------------------------------------------------------------------- changing
    def set_classes(self, classes: Sequence[Category]) -> None:
        """
        Raises:
            InputError: a class that segments are of is missing.
        """
        with self._writing:
            gone = {c.id for c in self.classes} - {c.id for c in classes}
            used = gone & self._used_classes()
            if used:
                names = ", ".join(c.name for c in self.classes if c.id in used)
                raise InputError(f"classes: segments are of {names}; give them other classes first")
            self.classes = tuple(classes)
            self._store()
            self._write_documents()

    def _used_classes(self) -> set[int]:
        used = {label.category for session in list(self._recent.values()) for label in session.state.labels.values()}
        for name in ("panoptic.json", "panoptic_drafts.json"):
            for annotation in read_object(self.folder / name).get("annotations", []):
                used |= {segment["category_id"] for segment in annotation["segments_info"]}
        return used - {None}  # type: ignore[return-value]  # without None they are numbers

    def set_finished(self, key: str, finished: bool) -> None:
        """Say whether a photo is finished; its map moves to the data set, or back to the drafts.

        Raises:
            NoPhotoError: there is none.
        """
        with self._writing:
            session = self.session(key)
            if finished and session.revision == 0:
                raise InputError("finished: expected a photo with a map")
            self.entries[key] = replace(self.entries[key], finished=finished)
            self._saved.pop(key, None)
            self.save(key)

    def unsaved(self) -> list[str]:
        """The photos whose files are older than their states."""
        with self._lock:
            return [key for key, session in self._recent.items() if session.revision and self._saved.get(key) != session.revision]

    def save(self, key: str) -> None:
        """Write a photo's files, if its state is newer than they are: its map at the photo's own size, its pins, the JSONs.

        Raises:
            InputError: something cannot be written.
        """
        with self._writing:
            session, photo = self.session(key), self.photos[key]
            snapshot = session.snapshot()
            if not snapshot.revision or self._saved.get(key) == snapshot.revision:
                return
            shares = session.shares()
            entry = replace(self.entries[key], begun=True, pinned=shares.pinned, confident=shares.confident)
            self.entries[key] = entry
            _link(photo.path, self.folder / "images" / photo.path.name)
            self._write_pins(photo, snapshot.state)
            pmap = self.full_map(photo, snapshot.state)
            for finished in (True, False):  # first, so that at no instant a JSON lists segments that its PNG has no more
                if (writer := self._writer(finished)).remove(_png_name(photo)):
                    writer.close()
                    _remove_if_empty(writer)
            with self._writer(entry.finished) as target:
                target.add(photo.path.name, entry.image_id, pmap)
                target.arrange()
            self._store()
            self._saved[key] = snapshot.revision

    def recover(self) -> None:
        """Save what is in the journals alone, because the process was killed before it could.

        Raises:
            InputError: something cannot be read or written.
        """
        listed = {finished: self._writer(finished).maps for finished in (True, False)}
        for key, photo in self.photos.items():
            journal, png = self.folder / "journals" / f"{photo.stem}.journal", self.folder / "panoptic" / _png_name(photo)
            if photo.shape is not None and journal.is_file():
                finished = self.entries[key].finished
                there = png.is_file() and png.name in listed[finished] and png.name not in listed[not finished]
                if not there or png.stat().st_mtime <= journal.stat().st_mtime:
                    self.save(key)

    def save_all(self) -> None:
        for key in self.unsaved():
            self.save(key)

    # -------------------------------------------------------------------------------------------------------------------- writing
    def full_map(self, photo: Photo, state: State) -> PanopticMap:
        """A state at the photo's own size."""
        ids = upscaled(ids_of(state.cells), photo.size)
        things = {c.id: c.isthing for c in self.classes}
        present = (int(i) for i in np.unique(ids) if i)
        segments = []
        for number in present:
            category = state.labels[number].category
            category = category if category in things else CLASS_AGNOSTIC.id
            segments.append(Segment(number, category, things.get(category, True)))
        return PanopticMap(ids, tuple(segments))

    def _write_pins(self, photo: Photo, state: State) -> None:
        pins = resized(pins_of(state.cells), photo.size)
        with atomic_write(self.folder / "pins" / f"{photo.stem}.pins.png") as temporary:
            Image.fromarray(pins.astype(np.uint8) * 255).save(temporary, format="PNG")

    def _writer(self, finished: bool) -> CocoPanopticWriter:
        name = "panoptic.json" if finished else "panoptic_drafts.json"
        return CocoPanopticWriter(self.folder / name, (CLASS_AGNOSTIC, *self.classes), png_dir=self.folder / "panoptic").resume()

    def _write_documents(self) -> None:
        """The JSONs anew, of the same maps."""
        for finished in (True, False):
            with self._writer(finished):
                pass

    def _store(self) -> None:
        photos = {
            self.photos[key].path.name: {
                "image_id": entry.image_id,
                "finished": entry.finished,
                "begun": entry.begun,
                "pinned": round(entry.pinned, 4),
                "confident": None if entry.confident is None else round(entry.confident, 4),
            }
            for key, entry in self.entries.items()
        }
        stored = read_object(self.folder / "annotate.json").get("photos")
        old = stored if isinstance(stored, dict) else {}
        classes = [{"id": c.id, "name": c.name, "isthing": c.isthing, "color": list(c.color or (200, 200, 200))} for c in self.classes]
        write_json(self.folder / "annotate.json", {"version": 1, "classes": classes, "photos": {**old, **photos}}, indent=1)


def _png_name(photo: Photo) -> str:
    return f"{photo.stem}.png"


def _remove_if_empty(writer: CocoPanopticWriter) -> None:
    """A JSON without a photo is none."""
    if not len(writer):
        with suppress(FileNotFoundError):
            writer.json_path.unlink()


def _link(photo: Path, target: Path) -> None:
    """Have the photo under the project's own name, without taking its space twice where that is possible."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    real = photo.resolve()
    try:
        os.link(real, target)
    except OSError:  # another disk, or a file system without links
        with atomic_write(target) as temporary:
            shutil.copyfile(real, temporary)

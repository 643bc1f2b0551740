"""A project as the other commands take it, and the command that makes one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from annotating import make_photos
from command import done, refused

from ldmseg.annotate.classes import read_classes
from ldmseg.annotate.operations import Pin, State
from ldmseg.annotate.photos import find_photos
from ldmseg.annotate.project import OPEN, Project
from ldmseg.annotate.run import Settings, make_server
from ldmseg.annotate.security import Address
from ldmseg.errors import InputError
from ldmseg.formats.coco_panoptic import CocoPanoptic
from ldmseg.formats.coco_panoptic_writer import CocoPanopticWriter


def propose(project: Project, key: str) -> State:
    """Halves, pinned, as if a model and a person had worked on the photo."""
    session = project.session(key)
    ids = np.ones(session.state.shape, dtype=np.uint16)
    ids[: len(ids) // 2] = 2
    session.answered(session.snapshot(), State(ids), final=True)
    session.act(Pin(()), session.revision)
    return session.state


@pytest.mark.slow
def test_check_and_show_take_a_project_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = find_photos([make_photos(tmp_path / "photos", 2)])
    project = Project(tmp_path / "labels", photos, read_classes(_classes(tmp_path)))
    for photo in photos:
        propose(project, photo.key)
        project.set_finished(photo.key, True)
    data = f"coco-panoptic:{tmp_path / 'labels'}"
    assert done(capsys, "data", "check", "--data", data, "--json").json()["images"] == 2  # and nothing is wrong: exit code 0
    done(capsys, "data", "show", "--data", data, "-o", tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 0


def test_a_project_goes_on_where_it_stopped_and_forgets_no_photo(tmp_path: Path) -> None:
    folder = make_photos(tmp_path / "photos", OPEN + 2)
    photos = find_photos([folder])
    project = Project(tmp_path / "labels", photos)
    states = {photo.key: propose(project, photo.key) for photo in photos}
    assert len(project.unsaved()) == OPEN + 2  # none is forgotten before it is saved
    project.save_all()
    project.set_finished(photos[0].key, True)
    again = Project(tmp_path / "labels", find_photos([folder]))
    assert all(again.session(key).state.same_as(state) for key, state in states.items())
    assert again.entries[photos[0].key].finished and again.entries[photos[1].key].pinned == 1
    ids = [entry.image_id for entry in again.entries.values()]
    assert len(set(ids)) == len(ids)
    assert again.session(photos[0].key) is again.session(photos[0].key)


def test_what_was_in_the_journal_only_is_saved_after_a_kill(tmp_path: Path) -> None:
    photos = find_photos([make_photos(tmp_path / "photos", 1)])
    state = propose(Project(tmp_path / "labels", photos), photos[0].key)  # and the process ends here
    again = Project(tmp_path / "labels", photos)
    again.recover()
    assert np.array_equal(CocoPanoptic.open(tmp_path / "labels" / "panoptic_drafts.json")[0].read_map().ids, state.cells & 0x7FFF)


@pytest.mark.parametrize("finished", [False, True])
def test_a_data_set_can_be_read_at_the_instant_when_a_map_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: bool
) -> None:
    photos = find_photos([make_photos(tmp_path / "photos", 2)])
    project = Project(tmp_path / "labels", photos)
    for photo in photos:
        propose(project, photo.key)
    project.save_all()
    project.set_finished(photos[1].key, True)
    first = project.session(photos[0].key)
    first.answered(first.snapshot(), State(first.state.cells + 5), final=True)  # other ids: the old list does not fit the new PNG

    class Killed(Exception):
        pass

    def no_more(writer: CocoPanopticWriter) -> None:
        raise Killed

    monkeypatch.setattr(CocoPanopticWriter, "arrange", no_more)  # between the PNG and its JSON
    with pytest.raises(Killed):
        project.set_finished(photos[0].key, True) if finished else project.save(photos[0].key)
    names = []
    for document in (tmp_path / "labels").glob("panoptic*.json"):
        for record in CocoPanoptic.open(document):
            record.read_map()
            names.append(record.file_name)
    assert names == [photos[1].path.name]  # and the other is in its journal


@pytest.mark.parametrize("finished", [False, True])
def test_a_map_whose_data_set_was_not_written_is_saved_after_a_kill(tmp_path: Path, finished: bool) -> None:
    """Killed after the map's picture was written, so that it is newer than the journal, and before the JSON."""
    photos = find_photos([make_photos(tmp_path / "photos", 2)])
    project = Project(tmp_path / "labels", photos)
    for photo in photos:
        propose(project, photo.key)
        project.set_finished(photo.key, finished)
    name = "panoptic.json" if finished else "panoptic_drafts.json"
    whole = (tmp_path / "labels" / name).read_bytes()
    document = json.loads(whole)
    del document["images"][0], document["annotations"][0]
    (tmp_path / "labels" / name).write_text(json.dumps(document))
    again = Project(tmp_path / "labels", photos)
    again.recover()
    assert (tmp_path / "labels" / name).read_bytes() == whole  # in the same order, too


@pytest.mark.parametrize("value", [{"size": [1]}, "x", -1, 2**70, None, True])
def test_strange_values_in_a_project_are_those_of_a_new_one(tmp_path: Path, value: object) -> None:
    photos = find_photos([make_photos(tmp_path / "photos", 1)])
    project = Project(tmp_path / "labels", photos)
    document = json.loads((tmp_path / "labels" / "annotate.json").read_text())
    entry = document["photos"]["photo0.png"]
    for key in ("image_id", "pinned", "confident"):
        document["photos"]["photo0.png"] = {**entry, key: value}
        (tmp_path / "labels" / "annotate.json").write_text(json.dumps(document))
        again = Project(tmp_path / "labels", photos).entries[photos[0].key]
        assert isinstance(again.image_id, int) and 0 <= again.image_id < 2**53
        assert isinstance(again.pinned, float) and again.confident in (None, 1.0)
    document["photos"] = [value]
    (tmp_path / "labels" / "annotate.json").write_text(json.dumps(document))
    assert Project(tmp_path / "labels", photos).entries.keys() == project.entries.keys()


def _classes(folder: Path, text: str = "sky, stuff\n\n# animals\ncat\n") -> Path:
    (folder / "classes.txt").write_text(text)
    return folder / "classes.txt"


def test_a_project_keeps_its_port_and_its_secret_for_its_owner_alone(tmp_path: Path) -> None:
    first = Address.of(tmp_path)
    assert first.port == 0 and len(first.token) >= 16
    Address(8123, first.token).store(tmp_path)
    assert Address.of(tmp_path) == Address(8123, first.token)
    stored = tmp_path / ".address.json"
    assert stored.stat().st_mode & 0o077 == 0 or os.name == "nt"
    for damaged in ("{", "[]", '{"port": 8123, "token": "short"}', json.dumps({"port": 2**16, "token": first.token})):
        stored.write_text(damaged)
        other = Address.of(tmp_path)
        assert other.port == 0 and other.token != first.token


def test_a_project_is_served_again_where_it_was_unless_another_program_is_there(tmp_path: Path) -> None:
    settings = Settings([make_photos(tmp_path / "photos", 1)], tmp_path / "project")

    def served() -> tuple[int, str]:
        _, listening = make_server(settings, lambda: None, lambda address: None)
        with listening:
            return listening.getsockname()[1], Address.of(settings.folder).token

    first = served()
    assert served() == first
    with socket.create_server(("127.0.0.1", first[0])):
        port, token = served()
    assert port != first[0] and token == first[1]
    chosen = replace(settings, token="of-my-own-choice-and-long")
    make_server(chosen, lambda: None, lambda address: None)[1].close()
    assert Address.of(settings.folder).token == first[1]


def test_classes_of_a_file(tmp_path: Path) -> None:
    sky, cat = read_classes(_classes(tmp_path))
    assert (sky.name, sky.isthing, cat.name, cat.isthing) == ("sky", False, "cat", True) and sky.id != cat.id
    for text, reason in (("", "found none"), ("a\na\n", "'a' twice"), ("a, animal", "line 1"), ("x" * 101, "1 to 100")):
        with pytest.raises(InputError, match=reason):
            read_classes(_classes(tmp_path, text))


@pytest.mark.slow
def test_what_the_command_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = make_photos(tmp_path / "photos", 1)
    assert "--host" in refused(capsys, "annotate", photos, "--host", "0.0.0.0", "-o", tmp_path / "p")
    assert "no such file" in refused(capsys, "annotate", tmp_path / "nothing.png", "-o", tmp_path / "p")
    (tmp_path / "file").write_text("")
    assert "--labels" in refused(capsys, "annotate", photos, "-o", tmp_path / "p", "--labels", tmp_path / "none.txt")
    assert "--output" in refused(capsys, "annotate", photos, "-o", tmp_path / "file")
    assert not (tmp_path / "p").exists()


def test_help_needs_neither_torch_nor_the_extra() -> None:
    code = "import sys; sys.modules['fastapi'] = None; import ldmseg.cli.annotate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_the_page_needs_no_torch_which_the_engine_imports_meanwhile() -> None:
    code = "import sys, ldmseg.annotate.run; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"

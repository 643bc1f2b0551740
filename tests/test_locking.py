from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ldmseg.errors import InputError
from ldmseg.locking import LOCK, is_locked, locked

HOLD = "import sys; from ldmseg.locking import locked\nwith locked(sys.argv[1]):\n    print('held', flush=True); sys.stdin.read()"


def holder(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_told_who_is_there(tmp_path: Path) -> None:
    first = holder(tmp_path / "run")
    with pytest.raises(InputError, match=rf"output: '.*run' is in use by process {first.pid}; wait"), locked(tmp_path / "run"):
        pass
    assert is_locked(tmp_path / "run")
    first.communicate("")
    with locked(tmp_path / "run"):
        assert (tmp_path / "run" / LOCK).is_file()


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    first = holder(tmp_path / "run")
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert (tmp_path / "run" / LOCK).is_file()
    with locked(tmp_path / "run"):
        pass
    assert list((tmp_path / "run").iterdir()) == []


def test_what_a_killed_holder_left_is_removed_and_what_others_write_is_not(tmp_path: Path) -> None:
    places = [tmp_path / name for name in (".a.0123456789ab.tmp.png", "samples/.b.0123456789ab.tmp.png", "other/.c.0123456789ab.tmp.png")]
    for path in places:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    with locked(tmp_path, ("samples", "missing")):  # no holder was killed: somebody may be writing them
        assert all(path.exists() for path in places)
    (tmp_path / LOCK).touch()
    with locked(tmp_path, ("samples", "missing")):
        assert [path.exists() for path in places] == [False, False, True]


def test_a_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    """Workers of a data loader are forked, and may outlive a killed process for some seconds."""
    script = (
        "import os, sys, time; from ldmseg.locking import locked\n"
        "with locked(sys.argv[1]):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        sys.stdin.read(); os._exit(0)\n"
        "    print('held', flush=True); os.kill(os.getpid(), 9)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    process.wait()
    with locked(tmp_path):
        pass
    process.communicate("")


def test_twice_in_one_process(tmp_path: Path) -> None:
    with locked(tmp_path):
        (tmp_path / "link").symlink_to(tmp_path)
        for same in (tmp_path, tmp_path / "link", tmp_path / "link" / "."):
            with pytest.raises(InputError, match=f"in use by process {os.getpid()}"), locked(same):
                pass
        with locked(tmp_path / "inside"):
            pass
    assert not is_locked(tmp_path)


def test_what_was_made_stays_if_something_is_in_it(tmp_path: Path) -> None:
    with locked(tmp_path / "a" / "b"):
        (tmp_path / "a" / "file").touch()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]
    with pytest.raises(ValueError, match="own"), locked(tmp_path / "c"):
        raise ValueError("own")
    assert not (tmp_path / "c").exists()


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"output: cannot write '.*/file'"), locked(tmp_path / "file"):
        pass

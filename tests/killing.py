"""Killing a command at random instants, and what must hold then: nothing lost, nothing half-written, the same result in the end.

A new verb is one more `Case`. Half of the instants are drawn over the time that a whole run takes; the other half over the changes
(files opened for writing, renames, removals) that it makes in its folder, because most of its time is spent between them.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from safetensors import safe_open
from warm import Ended, Warm

Contents = Mapping[str, bytes]
"""What a folder holds: a file's path below it -> its bytes, without what is different in every run."""

COMMAND = "ldmseg.cli:main"
FRESH = re.compile(r'"(date_created|time|seconds)": ("[^"]*"|[-+.\deE]+)')
"""Dates and times in JSON."""


@dataclass(frozen=True)
class Case:
    """One command, and what it promises.

    Attributes:
        arguments: of the command; `OUT` stands for the folder that it writes.
        call: what is called with them.
        grows: files of the result that grow while it runs, or are replaced by longer ones, as patterns of their paths.
        differs: files that tell of the run itself, and not of its result.
        whole: the file that is written last; where it is there, everything is.
        complete: what a command says that finds its result complete; None where it does the work again.
        check: of a folder after a kill, beyond what holds for every command.
    """

    name: str
    arguments: tuple[str, ...]
    call: str = COMMAND
    grows: tuple[str, ...] = ()
    differs: tuple[str, ...] = ()
    whole: str | None = None
    complete: str | None = None
    check: Callable[[Path], None] = field(default=lambda folder: None)

    def start(self, warm: Warm, out: Path, after: float | None = None, at_change: int | None = None) -> Ended:
        return warm.run(self.call, self._in(out), out, after=after, at_change=at_change)

    def learn(self, warm: Warm, out: Path) -> Ended:
        return warm.learn(self.call, self._in(out), out)

    def _in(self, out: Path) -> list[str]:
        return [argument.replace("OUT", str(out)) for argument in self.arguments]


def contents(folder: Path, case: Case) -> Contents:
    """Everything below a folder, hidden files too; an empty folder is an entry of its own."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            if not any(path.iterdir()):
                found[name + "/"] = b""
        elif not _matches(name, case.differs):
            data = path.read_bytes()
            found[name] = FRESH.sub(r'"\1": 0', data.decode()).encode() if path.suffix in (".json", ".jsonl") else data
    return found


def kill_and_resume(case: Case, kills: int, warm: Warm, folder: Path, rng: random.Random) -> tuple[int, int]:
    """Run a case whole; then kill it `kills` times or one or two more, each time (or after two or three kills) going on to the end.

    Returns:
        How many kills were tried, and how many came before the process had ended by itself.
    """
    first = case.learn(warm, folder / "learned")
    assert first.code == 0, first.err
    whole = case.start(warm, folder / "whole")
    assert whole.code == 0, whole.err
    expected = contents(folder / "whole", case)
    assert expected == contents(folder / "learned", case), "two runs differ, so a resumed one cannot be compared"
    tried = killed = 0
    while tried < kills:
        number, out = tried, folder / f"killed{tried:03d}"
        while True:
            after, change = rng.random() * whole.seconds, rng.randrange(whole.changes)
            instant = {"after": after} if rng.random() < 0.5 else {"at_change": change}
            ended = case.start(warm, out, **instant)
            tried, killed = tried + 1, killed + ended.killed
            told = f"{case.name}, number {number}, killed with {instant}"
            assert ended.killed or ended.code == 0 or _is_complete(case, ended), f"{told}: {ended.err}"
            if out.is_dir():
                _check_killed(case, out, expected, told)
            if rng.random() < 0.7:
                break
        again = case.start(warm, out)
        assert again.code == 0 or _is_complete(case, again), f"{told}, then: {again.err}"
        found = contents(out, case)
        assert found.keys() == expected.keys(), f"{told}: {sorted(found.keys() ^ expected.keys())}"
        different = [name for name in expected if found[name] != expected[name]]
        assert not different, f"{told}: {different} differ"
    return tried, killed


def _is_complete(case: Case, ended: Ended) -> bool:
    return case.complete is not None and ended.code == 2 and case.complete in ended.err and ended.err.count("\n") == 1


def _check_killed(case: Case, out: Path, expected: Contents, told: str) -> None:
    """Every file that has its final name is final; JSON and pictures that may still change can be read."""
    found = contents(out, case)
    for name, data in found.items():
        hidden = any(part.startswith(".") for part in name.split("/"))
        if not hidden and name in expected and not _matches(name, case.grows):
            assert data == expected[name], f"{told}: {name} is half-written"
        if not hidden and _matches(name, case.grows):
            _check_readable(out / name, f"{told}: {name}")
    if case.whole is not None and case.whole in found:
        left = [name for name in expected if found.get(name) != expected[name]]
        assert not left, f"{told}: {case.whole} is there without {left}"
    case.check(out)


def _check_readable(path: Path, told: str) -> None:
    try:
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".jsonl":
            lines = path.read_text().splitlines(keepends=True)
            for line in lines if not lines or lines[-1].endswith("\n") else lines[:-1]:
                json.loads(line)
        elif path.suffix == ".png":
            with Image.open(path) as picture:
                picture.load()
        elif path.suffix == ".safetensors":
            with safe_open(path, "np"):
                pass
    except Exception as error:
        raise AssertionError(f"{told} is half-written: {error}") from error


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in patterns)

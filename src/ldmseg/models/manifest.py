"""What an exported model consists of: written last, so that a folder is the whole of one export, and checked when it is loaded."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from safetensors import SafetensorError

from ldmseg.atomic import sync, write_json, writing_errors
from ldmseg.errors import InputError
from ldmseg.locking import is_locked, locked

MANIFEST = "manifest.json"
FORMAT, VERSION = "ldmseg-model", 1
_STAGING = ".exporting."


@contextmanager
def exported(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder beside `folder`, of the same name; what the block writes there takes the place of an earlier export.

    If the block or the process ends early, an older `folder` is as it was. Only where it also holds files that no export wrote (which
    stay), files are replaced one by one: until the last one is, the manifest does not agree with them, and the folder is refused.

    Raises:
        InputError: the folder cannot be written: disk full, not writable, something that is no folder is there.
    """
    target = Path(os.path.realpath(folder))
    if target.exists() and not target.is_dir():
        raise InputError(f"output: cannot write '{os.fspath(folder)}': something that is no folder is there")
    with writing_errors(folder):
        target.parent.mkdir(parents=True, exist_ok=True)
    beside = target if target.is_dir() and not os.access(target.parent, os.W_OK | os.X_OK) else target.parent
    staging = beside / f"{_STAGING}{secrets.token_hex(6)}"
    for leftover in beside.glob(f"{_STAGING}*"):  # of a process that was killed
        if not is_locked(leftover):
            shutil.rmtree(leftover, ignore_errors=True)
    try:
        with locked(staging), writing_errors(folder):
            new = staging / target.name
            new.mkdir()
            yield new
            _settle(new)
            files = {name: _sha256(new / name) for name in _files(new)}
            _put_in_place(new, target, files)
    except SafetensorError as error:  # hides the system's error
        raise InputError(f"output: cannot write '{os.fspath(folder)}': {' '.join(str(error).split())}") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def check_manifest(folder: str | os.PathLike[str], below: str = "", argument: str = "--model") -> None:
    """Compare a folder with its manifest; without one (diffusers writes none) there is nothing to compare.

    Args:
        below: a part of the folder that alone is to be used, such as `unet`.
        argument: named in errors.

    Raises:
        InputError: a file is missing or another one than was exported; it is named.
    """
    root = Path(folder)
    listed = {name: digest for name, digest in _listed(root, argument).items() if not below or name.startswith(f"{below}/")}
    for name in listed:
        if not (root / name).is_file():
            raise InputError(f"{argument}: expected '{root / name}', which {MANIFEST} lists, got no such file; {_ADVICE}")
    with ThreadPoolExecutor() as pool:
        for name, found in zip(listed, pool.map(lambda name: _sha256(root / name), listed), strict=True):
            if found != listed[name]:
                raise InputError(f"{argument}: '{root / name}' is not the file that was exported with the others; {_ADVICE}")


def fingerprint(folder: str | os.PathLike[str]) -> str | None:
    """SHA-256 of a model's configurations and weights (their names and contents); None where the folder is not on this machine."""
    root = Path(folder)
    every = _files(root) if root.is_dir() else []
    files = [name for name in every if name.endswith((".json", ".safetensors", ".bin")) and name != MANIFEST]
    if not files:
        return None
    with ThreadPoolExecutor() as pool:
        listed = dict(zip(files, pool.map(lambda name: _sha256(root / name), files), strict=True))
    return hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()


_ADVICE = f"export again, or remove {MANIFEST} if you changed the folder yourself"


def _listed(root: Path, argument: str) -> Mapping[str, str]:
    """The files of a folder's manifest and their SHA-256; none where there is no manifest, or one of something else."""
    path = root / MANIFEST
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            return {}
        files = values["files"]
        inside = all(not (p := PurePosixPath(name)).is_absolute() and ".." not in p.parts for name in files)
        if values["version"] == VERSION and inside and all(isinstance(digest, str) for digest in files.values()):
            return files
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise InputError(f"{argument}: '{path}' is damaged or of a later version; {_ADVICE}")


def _put_in_place(new: Path, target: Path, files: dict[str, str]) -> None:
    old = {} if not target.is_dir() else {name: digest for name, digest in _listed_or_none(target).items() if name not in files}
    families = {_family(name) for name in files}
    others = {name: digest for name, digest in old.items() if _family(name) not in families}
    write_json(new / MANIFEST, {"format": FORMAT, "version": VERSION, "files": dict(sorted((files | others).items()))}, indent=1)
    present = set(_files(target)) if target.is_dir() else set()
    if not others and present <= {*files, *old, MANIFEST} and _made_way(target, new.parent / "before"):
        os.replace(new, target)
        return
    for name in (MANIFEST, *files):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(new / name, target / name)
    for name in old.keys() - others.keys():
        with suppress(OSError):
            (target / name).unlink()


def _made_way(target: Path, aside: Path) -> bool:
    """Move an older export aside, if there is one; what is mounted cannot be moved."""
    try:
        if target.is_dir():
            os.replace(target, aside)
    except OSError:
        return False
    return True


def _listed_or_none(target: Path) -> Mapping[str, str]:
    try:
        return _listed(target, "output")
    except InputError:  # it is replaced
        return {}


def _family(name: str) -> str:
    """The name that a file of weights shares with its shards and their index. A loader reads one or the other."""
    return re.sub(r"-\d{5}-of-\d{5}|\.index\.json$", "", name)


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _settle(folder: Path) -> None:
    """Sync every file, and make it readable by those who can read the folder: safetensors gives only the owner access."""
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(folder.stat().st_mode & 0o666)
            sync(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

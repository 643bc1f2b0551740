"""The photos of an archive: of folders, patterns, lists and tars, here or elsewhere, each under a name of its own."""

from __future__ import annotations

import glob
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile
from pathlib import PurePosixPath

from ldmseg.errors import InputError, quoted, shortened
from ldmseg.formats.image import IMAGE_SUFFIXES, one_line
from ldmseg.labelling.archive.remote import base_name, is_folder, is_remote, listed_files, matching, opened

LIST, TAR = ".txt", ".tar"
_WILD = re.compile(r"[*?\[]")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_PACKED = re.compile(r"\.(tgz|tar\.\w+)$")


@dataclass(frozen=True, slots=True)
class Entry:
    """One photo.

    Attributes:
        name: relative, with `/` between its parts; the map is written under this name.
        place: the file, or the tar that holds it: a path or an address.
        part: first byte and size in the tar.
        partial: first byte and size of its partial map in the same tar.
    """

    name: str
    place: str
    part: tuple[int, int] | None = None
    partial: tuple[int, int] | None = None


def entries(sources: Sequence[str], partial_suffix: str | None = None) -> Iterator[Entry]:
    """All photos that `sources` name, in order; what is in a folder or matches a pattern comes by name.

    Args:
        sources: folders (with all that is below them; hidden files and links to folders are left out), photos, patterns
            (`photos/**/*.jpg`), lists (`.txt`, a photo a line) and tars (`.tar`, also `train-{000..015}.tar`), as paths or addresses.
        partial_suffix: what the partial map of a sample is called in tars, `partial.png`.

    Raises:
        InputError: a source does not exist, or cannot be read as what it is.
        SourceLost: a store elsewhere does not answer.
    """
    if not sources:
        raise InputError("SOURCE: expected at least one folder, photo, pattern, list or tar, got none")
    for given in sources:
        for source in _ranges(given):
            yield from _of(source, partial_suffix)


def _of(source: str, partial_suffix: str | None) -> Iterator[Entry]:
    exists = is_remote(source) or os.path.lexists(source)
    if _WILD.search(source) and (is_remote(source) or not exists):
        yield from _of_pattern(source, partial_suffix)
    elif not exists:
        raise InputError(f"SOURCE: expected a folder, a photo, a pattern, a list or a tar, got {quoted(source)}, which does not exist")
    elif _PACKED.search(source):
        raise InputError(f"SOURCE: expected a plain .tar, got {quoted(source)}, in which no photo can be read on its own; unpack it first")
    elif source.endswith(TAR) and not is_folder(source):
        yield from _of_tar(source, partial_suffix)
    elif source.endswith(LIST) and not is_folder(source):
        yield from _of_list(source)
    elif not _is_photo(source) and is_folder(source):
        places = listed_files(source) if is_remote(source) else _below(source)
        yield from _named(_photos(places), source)
    else:
        yield Entry(base_name(source), _whole(source))


def _is_photo(source: str) -> bool:
    """Whether an address is a photo's by its name; asking a store for a folder of this name may take long."""
    return is_remote(source) and PurePosixPath(source).suffix.lower() in IMAGE_SUFFIXES


def _ranges(source: str) -> Iterator[str]:
    """`a-{00..03}.tar` -> `a-00.tar` .. `a-03.tar`."""
    found = _RANGE.search(source)
    if found is None or os.path.lexists(source):
        yield source
        return
    for number in range(int(found[1]), int(found[2]) + 1):
        yield from _ranges(f"{source[: found.start()]}{number:0{len(found[1])}d}{source[found.end() :]}")


def _of_pattern(pattern: str, partial_suffix: str | None) -> Iterator[Entry]:
    places = matching(pattern) if is_remote(pattern) else sorted(glob.glob(pattern, recursive=True))
    if not places:
        raise InputError(f"SOURCE: expected a pattern that something matches, got {quoted(pattern)}")
    fixed = pattern[: _WILD.search(pattern).start()].rpartition("/")[0]  # type: ignore[union-attr]  # it is a pattern
    for tars, found in groupby(places, lambda place: place.endswith(TAR)):
        if tars:
            for place in found:
                yield from _of_tar(place, partial_suffix)
        else:
            yield from _named(_photos(place for place in found if is_remote(place) or os.path.isfile(place)), fixed)


def _below(folder: str) -> Iterator[str]:
    try:
        with os.scandir(folder) as found:
            inside = sorted((item.name, item.is_dir(follow_symlinks=False)) for item in found if item.name[0] != ".")
    except OSError as error:
        raise InputError(f"SOURCE: cannot list {quoted(folder)}: {one_line(error)}") from error
    for name, is_dir in inside:
        path = os.path.join(folder, name)
        if is_dir:
            yield from _below(path)
        elif os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:
            yield path


def _photos(places: Iterable[str]) -> Iterator[str]:
    for place in places:
        if PurePosixPath(place).suffix.lower() in IMAGE_SUFFIXES and base_name(place)[0] != ".":
            yield place


def _named(places: Iterable[str], root: str) -> Iterator[Entry]:
    prefix = f"{root.rstrip('/')}/" if root else ""
    for place in places:
        yield Entry(place.removeprefix(prefix).replace(os.sep, "/").lstrip("/"), _whole(place))


def _whole(place: str) -> str:
    return place if is_remote(place) else os.path.abspath(place)


def _of_list(source: str) -> Iterator[Entry]:
    """A line that is no address and not absolute is relative to the list's folder.

    Photos below the list's folder are called by their path from there, all photos of another list by their path from the folder that
    they have in common.
    """
    folder = os.path.dirname(_whole(source)) if not is_remote(source) else source.rpartition("/")[0]
    common, inside = "", True
    for number, place in enumerate(_lines(source, folder)):
        parent = place.rpartition("/")[0]
        common = parent if number == 0 else _common(common, parent)
        inside = inside and f"{place}".startswith(f"{folder}/")
    yield from _named(_lines(source, folder), folder if inside else common)


def _lines(source: str, folder: str) -> Iterator[str]:
    try:
        with opened(source) as file:
            for line in file:
                text = line.decode("utf-8").strip()
                if text:
                    yield text if is_remote(text) else _joined(folder, text)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"SOURCE: cannot read the list {quoted(source)}: {shortened(one_line(error), 200)}") from error


def _joined(folder: str, text: str) -> str:
    return f"{folder}/{text}" if is_remote(folder) and not os.path.isabs(text) else os.path.normpath(os.path.join(folder, text))


def _common(first: str, second: str) -> str:
    pairs = zip(first.split("/"), second.split("/"), strict=False)
    return "/".join(own for own, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


# --------------------------------------------------------------------------------------------------------------------------- tars
def _of_tar(place: str, partial_suffix: str | None) -> Iterator[Entry]:
    """The photos of a tar in WebDataset's layout, where the members of a sample stand together and share a name up to its first dot.

    The photo of a sample is its first member with the suffix of a picture and no other dot (`key.jpg`). Where a sample has none, every
    picture in it is a photo of its own. Nothing but plain members counts.
    """
    place = _whole(place)
    for _, sample in groupby(_members(place), lambda member: _key(member[0])):
        members = [(name, part) for name, part in sample if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES]
        partial = next((part for name, part in members if partial_suffix and _suffix(name) == partial_suffix), None)
        photos = [(name, part) for name, part in members if not partial_suffix or _suffix(name) != partial_suffix]
        plain = [(name, part) for name, part in photos if "." not in _suffix(name)]
        for name, part in plain[:1] or photos:
            yield Entry(str(PurePosixPath(name)), place, part, partial)


def _members(place: str) -> Iterator[tuple[str, tuple[int, int]]]:
    try:
        with opened(place) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]  # else it keeps all of them
                if member.isfile():
                    yield member.name, (member.offset_data, member.size)
    except (OSError, tarfile.TarError, EOFError) as error:
        raise InputError(f"SOURCE: cannot read the tar {quoted(place)}: {shortened(one_line(error), 200)}") from error


def _key(name: str) -> str:
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]


def _suffix(name: str) -> str:
    return name.rpartition("/")[2].partition(".")[2]

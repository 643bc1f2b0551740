"""What a user names: photos, folders of photos, videos, and https addresses of photos and videos."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory


@dataclass(frozen=True)
class Sources:
    """Files and folders of `photos`, files of `videos`, and of each file that was fetched its address."""

    photos: tuple[Path, ...]
    videos: tuple[Path, ...]
    addresses: Mapping[str, str]

    def named(self, file: str) -> str:
        """A file as the user named it."""
        return self.addresses.get(file, file)


@contextmanager
def opened_sources(names: Sequence[str]) -> Iterator[Sources]:
    """Sort what was named, and fetch what lies at addresses into a folder that is there while the block runs.

    Raises:
        InputError: see `ldmseg.formats.remote.fetch_file`.
    """
    from ldmseg.formats.remote import fetch_file, is_address
    from ldmseg.formats.video import is_video

    with TemporaryDirectory(prefix="ldmseg-") as folder:
        fetched = {name: fetch_file(name, Path(folder)) for name in dict.fromkeys(names) if is_address(name)}
        files = [fetched.get(name, Path(name)) for name in names]
        videos = [file for file in files if is_video(file) and not file.is_dir()]
        photos = [file for file in files if file not in videos]
        yield Sources(tuple(photos), tuple(videos), {str(file): name for name, file in fetched.items()})

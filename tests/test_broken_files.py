"""The broken files of the archives' tests are what they are for: each is refused by the reader of photos, in one line."""

from __future__ import annotations

import pytest
from broken_files import broken_files

from ldmseg.errors import InputError
from ldmseg.formats.image import read_image

WAYS = broken_files()


def test_there_are_twenty() -> None:
    assert len(WAYS) == len({name for name, _ in WAYS}) == len({data for _, data in WAYS}) == 20


@pytest.mark.parametrize(("name", "data"), WAYS, ids=[name for name, _ in WAYS])
def test_each_is_refused(name: str, data: bytes) -> None:
    with pytest.raises(InputError) as refusal:
        read_image(data)
    assert "\n" not in str(refusal.value)

"""JSON from elsewhere, read strictly: numbers are finite, and text can be written again."""

from __future__ import annotations

import json
import math
import os
import re
from typing import Any

from ldmseg.errors import InputError, quoted, shortened
from ldmseg.formats.image import existing_file, one_line

_SUSPECT = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")  # how JSON writes NUL and surrogates


def read_json(path: str | os.PathLike[str], what: str = "json") -> Any:
    """The document of a file in UTF-8, with or without a byte order mark.

    Raises:
        InputError: the file is missing or no JSON; it nests too deep, or holds NaN, infinity, numbers that Python does not read, NUL or
            lone surrogates, which no file name and no other file can hold. `what` names the file in the message.
    """
    file = existing_file(path, what)
    try:
        text = file.read_text(encoding="utf-8-sig")
        document = json.loads(text, parse_constant=_finite, parse_float=_finite)
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, no JSON
        raise InputError(f"{what}: cannot read '{file}': {shortened(one_line(error), 200)}") from error
    except RecursionError as error:
        raise InputError(f"{what}: cannot read '{file}': it nests too deep") from error
    if _SUSPECT.search(text):
        _check_text(document, f"{what}: '{file}'")
    return document


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"expected finite numbers, got {shortened(text)}")
    return value


def _check_text(document: Any, where: str) -> None:
    pending = [document]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending += [*value, *value.values()]
        elif isinstance(value, list):
            pending += value
        elif isinstance(value, str) and any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value):
            raise InputError(f"{where}: expected text without NUL and lone surrogates, got {quoted(value)}")

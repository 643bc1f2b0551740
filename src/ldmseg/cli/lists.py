"""Options that take several values in one: `--rates 0.1,0.5`."""

from __future__ import annotations

from collections.abc import Sequence

from ldmseg.errors import InputError, quoted


def words(value: str, option: str, allowed: Sequence[str]) -> list[str]:
    """The names in `a,b`, each once.

    Raises:
        InputError: there is none, or one that is not allowed.
    """
    found = _parts(value)
    wrong = [word for word in found if word not in allowed]
    if wrong or not found:
        raise InputError(f"{option}: expected some of {','.join(allowed)}, got {quoted(wrong[0] if wrong else value)}")
    return found


def fractions(value: str, option: str) -> list[float]:
    """The numbers in `0.1,0.5`, each once.

    Raises:
        InputError: there is none, or one that is not in 0..1.
    """
    try:
        found = [float(part) for part in _parts(value)]
    except ValueError:
        found = []
    if not found or not all(0 <= number <= 1 for number in found):
        raise InputError(f"{option}: expected numbers in 0..1 with commas between, got {quoted(value)}")
    return found


def whole_numbers(value: str, option: str) -> list[int]:
    """The numbers in `16,32`, each once.

    Raises:
        InputError: there is none, or one below 1.
    """
    found = _parts(value)
    if not found or not all(part.isascii() and part.isdigit() and int(part) > 0 for part in found):
        raise InputError(f"{option}: expected whole numbers from 1 with commas between, got {quoted(value)}")
    return [int(part) for part in found]


def _parts(value: str) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))

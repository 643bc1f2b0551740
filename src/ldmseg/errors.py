"""The one error that a user can cause, and how values are quoted in its message."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from contextlib import contextmanager

QUOTED = 80
"""Characters of a value that a message shows, at most."""


class InputError(ValueError):
    """A user's mistake: the message is one line that names the argument, what was expected and what came.

    The command line prints it and exits with code 2; the library raises it before anything is computed or written.
    """


@contextmanager
def about(option: str, argument: str = "source") -> Iterator[None]:
    """Errors about an argument of the library name the option that it came from."""
    try:
        yield
    except InputError as error:
        if not str(error).startswith(f"{argument}: "):
            raise
        raise InputError(option + str(error).removeprefix(argument)) from error


def quoted(value: object) -> str:
    """A value as Python writes it, in one line of at most 80 characters; values of any size, depth and content cost no more."""
    return shortened(_REPR.repr(value))


def printable(text: object) -> str:
    """Text with a question mark for every character that cannot be shown: a message quotes what libraries say of damaged files."""
    return "".join(character if character.isprintable() else "?" for character in str(text))


def shortened(text: object, limit: int = QUOTED) -> str:
    """Text in one line of at most `limit` characters, where longer ones lose their middle."""
    line = str(text)
    if len(line) > 4 * limit:
        line = line[: 2 * limit] + line[-2 * limit :]
    line = " ".join(line.split())
    left = (limit - 2) // 2
    return line if len(line) <= limit else f"{line[:left]}..{line[len(line) - (limit - 2 - left) :]}"


class _Repr(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother, self.maxlong = 3, QUOTED, QUOTED, QUOTED
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = 8

    def repr_int(self, value: int, level: int) -> str:
        digits = value.bit_length() * 30103 // 100000 + 1
        return repr(value) if digits <= QUOTED else f"<a whole number of about {digits} digits>"  # Python refuses to write long ones


_REPR = _Repr()

"""Ways to damage a file: its bytes, its chunks, its document."""

from __future__ import annotations

import json
import random
import struct
import zlib
from collections.abc import Callable
from copy import deepcopy
from typing import Any

STRANGE: tuple[Any, ...] = (
    *(None, -1, 0, 1, 7, 2**31, 2**53, 2**70, -(2**70), 10**400, 1e300, 0.5, -0.0, True, "", "x", " ", "nan", "inf"),
    *("../outside/secret.png", "/etc/passwd", "../../../../etc/passwd", "\0", "\ud800", "\n\n", "a" * 300, "ж" * 40, "9" * 5000),
    *("http://127.0.0.1:1/x.png", "file:///etc/passwd", "!!python/object/apply:os.system ['x']", "os", "__class__", "{0.__class__}"),
    *([], {}, [[]], [None], [1, 2, 3, 4], {"a": 1}, {"": {}}, [2**40] * 4, {"counts": [2**40], "size": [2**20, 2**20]}),
    *({"size": [4, 4], "counts": "9" * 2000}, [[0, 0, 1e9, 0, 1e9, 1e9]], {"points": [[0, 0]] * 3}, {"$ref": "#"}),
)
"""Values that do not belong where they are put: of other types, huge, paths that lead away, text that something might run."""

HUGE = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 30000, 12000, 2**20, 2**31 - 1, 2**32 - 1)


def damaged_bytes(data: bytes, rng: random.Random) -> bytes:
    """Flipped, cut, repeated, filled or interleaved bytes; at least one change."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        place = rng.randrange(len(found) + 1)
        length = rng.choice((1, 2, 4, 16, 200))
        match rng.randrange(7):
            case 0 if found:
                found[place % len(found)] ^= 1 << rng.randrange(8)
            case 1:
                del found[place:]
            case 2:
                found[place:place] = found[place : place + length]
            case 3:
                del found[place : place + length]
            case 4:
                found[place : place + 4] = struct.pack(rng.choice((">I", "<I")), rng.choice(HUGE))
            case 5:
                found[place : place + length] = rng.randbytes(length)
            case _:
                found[place : place + length] = bytes(length)
    return bytes(found)


def damaged_text(text: str, rng: random.Random) -> str:
    """As `damaged_bytes`, by lines and tokens; what comes may be no UTF-8."""
    lines = text.splitlines(keepends=True) or [""]
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = rng.randrange(len(lines))
        match rng.randrange(6):
            case 0:
                lines[place] = lines[rng.randrange(len(lines))]
            case 1:
                del lines[place]
                lines = lines or [""]
            case 2:
                lines[place] = lines[place].replace(
                    rng.choice(":,{}[]\"'<>/ 0123456789"), rng.choice((":", "", "\t", "-", "9" * 400, "&a", "*a", "]"))
                )
            case 3:
                lines[place] = lines[place][: rng.randrange(len(lines[place]) + 1)]
            case 4:
                lines.insert(place, str(rng.choice(STRANGE)).encode("utf-8", "replace").decode() + "\n")
            case _:
                lines[place] = " " * rng.randrange(9) + lines[place]
    return "".join(lines)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a document."""
    found = []
    if isinstance(value, (dict, list)):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            found += [(value, key), *places(value[key])]
    return found


def damaged_document(document: Any, rng: random.Random, strange: tuple[Any, ...] = STRANGE) -> Any:
    """A copy with values replaced, moved, removed, renamed, repeated or nested."""
    found = deepcopy(document)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        everywhere = places(found)
        if not everywhere:
            return rng.choice(strange)
        container, key = rng.choice(everywhere)
        match rng.randrange(8):
            case 0 | 1 | 2 | 3:
                container[key] = deepcopy(rng.choice(strange))
            case 4:
                del container[key]
            case 5:
                other, place = rng.choice(everywhere)
                container[key] = deepcopy(other[place])
            case 6 if isinstance(container, list):
                container += [deepcopy(container[key])] * rng.choice((1, 3, 300))
            case 6:
                container[rng.choice(("", "id", "x", "file_name", "__proto__"))] = container.pop(key)
            case _:
                for _ in range(rng.choice((1, 3, 200, 2000))):
                    container[key] = [container[key]] if rng.random() < 0.5 else {"a": container[key]}
    return found


def damaged_json(document: Any, rng: random.Random) -> bytes:
    """JSON of a damaged document (four in five), or damaged JSON; a number may be NaN or of a thousand digits, a key there twice."""
    if rng.random() < 0.2:
        return damaged_bytes(json.dumps(document).encode(), rng)
    try:
        text = json.dumps(damaged_document(document, rng))
    except (RecursionError, ValueError):
        text = rng.choice(("[", '{"a":')) * 100_000
    if rng.random() < 0.1:
        text = text.replace(rng.choice("0123456789"), rng.choice(("NaN", "1e999", "-Infinity", "1" * 5000)), 1)
    return text.encode("utf-8", "surrogatepass")


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """The kind and content of each chunk."""
    found, start = [], 8
    while start + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, start)
        found.append((data[start + 4 : start + 8], data[start + 8 : start + 8 + length]))
        start += 12 + length
    return found


def png_of(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG with right lengths and checksums, whatever the chunks hold."""
    body = b"".join(struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


def damaged_png(data: bytes, rng: random.Random) -> bytes:
    """Chunks that are changed, dropped, repeated or added, with checksums that hold."""
    chunks = png_chunks(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        place = rng.randrange(len(chunks))
        kind, content = chunks[place]
        match rng.randrange(6):
            case 0:
                chunks[0] = (b"IHDR", _damaged_header(chunks[0][1], rng))
            case 1:
                chunks[place] = (kind, damaged_bytes(content, rng))
            case 2 if len(chunks) > 1:
                del chunks[place]
            case 3:
                chunks.insert(place, (kind, content))
            case _:
                chunks.insert(rng.randrange(len(chunks) + 1), _strange_chunk(rng))
    return png_of(chunks)


def _damaged_header(header: bytes, rng: random.Random) -> bytes:
    fields = list(struct.unpack(">IIBBBBB", header.ljust(13, b"\0")[:13]))
    place = rng.randrange(7)
    fields[place] = rng.choice(HUGE) if place < 2 else rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
    return struct.pack(">IIBBBBB", *fields)


def _strange_chunk(rng: random.Random) -> tuple[bytes, bytes]:
    bomb = zlib.compress(bytes(rng.choice((100, 10_000_000))))
    return rng.choice(
        (
            (b"PLTE", rng.randbytes(rng.choice((0, 1, 3, 768, 900)))),
            (b"tRNS", rng.randbytes(rng.choice((0, 1, 2, 6, 300)))),
            (b"zTXt", b"Comment\0\0" + bomb),
            (b"iTXt", b"Comment\0\1\0\0\0" + bomb),
            (b"iCCP", b"icc\0\0" + bomb),
            (b"eXIf", b"MM\0*" + rng.randbytes(40)),
            (b"acTL", struct.pack(">II", rng.choice(HUGE), 0)),
            (b"fcTL", rng.randbytes(26)),
            (b"gAMA", rng.randbytes(rng.choice((0, 4)))),
            (b"IDAT", bomb),
        )
    )


def damaged_safetensors(data: bytes, rng: random.Random) -> bytes:
    """A header of another length, or another document in it; or other bytes."""
    (length,) = struct.unpack_from("<Q", data)
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    match rng.randrange(4):
        case 0:
            return struct.pack("<Q", rng.choice((0, 1, length - 1, length + 1, 2**31, 2**63, 2**64 - 1))) + data[8:]
        case 1:
            return damaged_bytes(data, rng)
        case 2:
            return data[: rng.randrange(len(data))]
        case _:
            text = damaged_json(header, rng)
            return struct.pack("<Q", len(text)) + text + body


def either(*ways: Callable[[bytes, random.Random], bytes]) -> Callable[[bytes, random.Random], bytes]:
    """One of several ways each time."""
    return lambda data, rng: rng.choice(ways)(data, rng)

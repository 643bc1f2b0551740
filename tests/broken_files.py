"""Twenty ways in which a photo's file can be broken."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import Image


def _encoded(format: str, mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> bytes:
    pixels = np.random.default_rng(7).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    data = BytesIO()
    Image.fromarray(pixels).convert(mode).save(data, format=format)
    return data.getvalue()


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, data: bytes) -> bytes:
    """An RGB PNG whose header says width x height, whatever the compressed data hold."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = (_png_chunk(b"IHDR", header), _png_chunk(b"IDAT", data), _png_chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def broken_files() -> list[tuple[str, bytes]]:
    """(name of the way, content of the file)."""
    png, jpeg, gif, tiff, bmp, webp = (_encoded(name) for name in ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"))
    middle = len(png) // 2
    return [
        ("empty", b""),
        ("one-byte", b"\xff"),
        ("zeros", bytes(5000)),
        ("text", b"this is no photo\n" * 9),
        ("html", b"<!DOCTYPE html><html><body>404 Not Found</body></html>"),
        ("json", b'{"error": "quota exceeded"}'),
        ("archive", b"PK\x03\x04" + bytes(60)),
        ("noise", np.random.default_rng(1).bytes(3000)),
        ("png-cut", png[:middle]),
        ("png-signature", png[:8]),
        ("png-checksum", png[:middle] + bytes([png[middle] ^ 255]) + png[middle + 1 :]),
        ("png-bomb", _png(60_000, 60_000, zlib.compress(bytes(1000)))),
        ("png-no-pixels", _png(0, 0, zlib.compress(b""))),
        ("png-short-data", _png(300, 300, zlib.compress(bytes(50)))),
        ("jpeg-cut", jpeg[: len(jpeg) // 2]),
        ("jpeg-header", jpeg[:20]),
        ("gif-cut", gif[:14]),
        ("tiff-cut", tiff[: len(tiff) // 3]),
        ("bmp-cut", bmp[: len(bmp) // 2]),
        ("webp-cut", webp[: len(webp) // 3]),
    ]

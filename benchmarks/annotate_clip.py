"""The documentation's picture and clip of the annotator, on photos of scikit-image that are in the public domain.

    OMP_NUM_THREADS=1 python benchmarks/annotate_clip.py

Opens the photos in the annotator with the bundled model, works on one as a person would, and takes pictures of the page:
docs/images/annotate.png, and docs/images/annotate.gif of less than 3 MB.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from itertools import pairwise
from pathlib import Path

from _browser import Window, chromium, process, window
from PIL import Image
from skimage import data

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
PHOTOS = ("chelsea", "astronaut", "coffee", "rocket")
CLASSES = "animal\nperson\nthing\nbackground, stuff\n"
LIMIT = 3_000_000
WIDTH = 800
HOLD, STEP = 1600, 220
"""Milliseconds that a picture stands, and that one of a stroke stands."""


class Film:
    """Pictures of a page, and how long each stands."""

    def __init__(self, page: Window) -> None:
        self.page = page
        self.frames: list[tuple[Image.Image, int]] = []

    def shot(self, milliseconds: int = HOLD) -> None:
        picture = Image.open(io.BytesIO(self.page.page.screenshot())).convert("RGB")
        self.frames.append((picture.resize((WIDTH, WIDTH * picture.height // picture.width), Image.Resampling.LANCZOS), milliseconds))

    def drag(self, *points: tuple[float, float], pictures: int = 4) -> None:
        """A stroke, seen as it is painted; then the answer."""
        mouse = self.page.page.mouse
        mouse.move(*self.page.at(*points[0]))
        mouse.down()
        for start, end in pairwise(points):
            for part in range(1, pictures + 1):
                share = part / pictures
                mouse.move(*self.page.at(start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share))
                self.shot(STEP)
        mouse.up()
        self.page.settled()
        self.shot()

    def save(self, path: Path) -> int:
        """As a GIF of the colours that all frames share; its size in bytes."""
        sheet = Image.new("RGB", (WIDTH, sum(frame.height for frame, _ in self.frames)))
        for number, (frame, _) in enumerate(self.frames):
            sheet.paste(frame, (0, number * frame.height))
        palette = sheet.quantize(192, method=Image.Quantize.MEDIANCUT)
        frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame, _ in self.frames]
        times = [milliseconds for _, milliseconds in self.frames]
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=times, loop=0, optimize=True, disposal=1)
        return path.stat().st_size


def work(page: Window, film: Film) -> None:
    """The cat of `chelsea` (451x300), as a person would label it."""
    film.shot()  # everything is proposed
    page.press("n")
    film.drag((150, 60), (300, 60), (360, 160))
    page.press("1")
    film.shot()
    page.press("b")
    film.drag((180, 230), (300, 240))
    page.press("a")
    film.shot()
    page.press("n")
    film.drag((20, 40), (30, 150))
    page.press("4", "o")
    film.shot()
    page.press("o")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=IMAGES)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        photos = Path(folder) / "photos"
        photos.mkdir()
        for number, name in enumerate(PHOTOS):
            Image.fromarray(getattr(data, name)()).save(photos / f"{number}-{name}.png")
        (Path(folder) / "classes.txt").write_text(CLASSES)
        options = ("--labels", str(Path(folder) / "classes.txt"))
        with (
            process(photos, Path(folder) / "my-labels", "default", *options) as server,
            window(browser, server, viewport={"width": 1280, "height": 720}) as page,
        ):
            film = Film(page)
            work(page, film)
            page.page.screenshot(path=arguments.output / "annotate.png")
            size = film.save(arguments.output / "annotate.gif")
    print(f"{len(film.frames)} pictures, {size} bytes")
    if size > LIMIT:
        raise SystemExit(f"the clip has {size} bytes, more than {LIMIT}")


if __name__ == "__main__":
    main()

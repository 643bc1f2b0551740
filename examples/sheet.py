"""Draw what `make demo` did on one sheet: photo, segmentation, what was given, completion.

python examples/sheet.py --folder demo
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from ldmseg.errors import InputError
from ldmseg.formats.image import read_image
from ldmseg.formats.label_png import read_label_png
from ldmseg.visualize import contact_sheet, overlay

COLUMNS = {"segmented": "segmented", "partial": "given", "completed": "completed"}  # folder -> heading
SHOWN = {"segmented": 0.5, "partial": 0.85, "completed": 0.5}  # how strongly a map is tinted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("demo"), help="holds photos/, scenes/, segmented/, partial/ and completed/")
    folder = parser.parse_args().folder
    try:
        rows: list[list[Image.Image | None]] = []
        for path in (*sorted((folder / "photos").glob("*.png")), *sorted((folder / "scenes" / "images").glob("*.png"))):
            photo = read_image(path)
            maps = ((column, read_label_png(folder / column / f"{path.stem}.png")) for column in COLUMNS)
            rows.append([photo, *(overlay(photo, pmap, alpha=SHOWN[column]) for column, pmap in maps)])
        contact_sheet(rows, titles=["photo", *COLUMNS.values()], tile=256).save(folder / "sheet.png")
    except InputError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()

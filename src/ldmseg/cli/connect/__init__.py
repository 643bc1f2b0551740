"""`ldmseg connect`: to and from other people's annotation tools. The tools share two verbs; what one has beyond them is in its module."""

from __future__ import annotations

import typer

from ldmseg.cli.connect import cvat, label_studio, segments_ai
from ldmseg.cli.connect.exchange import exchange

app = typer.Typer(help="Take labels from annotation tools, and give completed ones back.")
TITLES = {"labelme": "labelme", "coco-instances": "COCO instances", "yolo-seg": "YOLO's segmentation format", "isat": "ISAT"}
for name, title in TITLES.items():
    app.add_typer(exchange(name, title), name=name)
app.add_typer(cvat.app, name="cvat")
app.add_typer(label_studio.app, name="label-studio")
app.add_typer(segments_ai.app, name="segments")

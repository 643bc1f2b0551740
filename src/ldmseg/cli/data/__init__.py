"""`ldmseg data`: make data sets, look at them. Each verb has a module of its own."""

from __future__ import annotations

import typer

from ldmseg.cli.data import scenes, show

app = typer.Typer(help="Write generated scenes; look at a data set.")
app.command("scenes")(scenes.scenes)
app.command("show")(show.show)

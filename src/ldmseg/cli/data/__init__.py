"""`ldmseg data`: make, convert, check and draw data sets. Each verb has a module of its own."""

from __future__ import annotations

import typer

from ldmseg.cli.data import cache, check, convert, partial, scenes, show

app = typer.Typer(help="Make, convert, check and draw data sets.")
app.command("scenes")(scenes.scenes)
app.command("partial")(partial.partial)
app.command("convert")(convert.convert)
app.command("check")(check.check)
app.command("show")(show.show)
app.command("cache")(cache.cache)

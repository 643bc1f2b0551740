"""`ldmseg data partial`: partial and noisy maps from full ones."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ldmseg.atomic import check_output_folder
from ldmseg.cli import options
from ldmseg.cli.console import Progress, print_json, say
from ldmseg.cli.lists import words
from ldmseg.errors import InputError

if TYPE_CHECKING:
    from ldmseg.data.cases import Case
    from ldmseg.data.datasets import PanopticDataset


def partial(
    data: Annotated[
        str, typer.Option("--data", metavar="FORMAT:ROOT[:SPLIT]", help="Full maps, e.g. coco-panoptic:DIR.", show_default=False)
    ],
    output: options.Output,
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            metavar="KIND,..",
            help="blocks, pixels, points, strokes, scanlines, boxes; or noisy: shifted, eroded, ragged, merged. Several take turns.",
        ),
    ] = "strokes,boxes",
    share: Annotated[
        float | None,
        typer.Option("--share", min=0, max=1, help="Share kept of the image, or of the segments (points, strokes).", show_default="0.5"),
    ] = None,
    block_size: Annotated[int | None, typer.Option("--block-size", min=1, help="Side of a block in pixels.", show_default="16")] = None,
    amount: Annotated[
        float | None,
        typer.Option(
            "--amount",
            min=0,
            max=1,
            help="Amount of noise in a noisy map: share of the shorter side, or of the segments (merged).",
            show_default="0.03",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the choice of what is kept.")] = 0,
    json: options.Json = False,
) -> None:
    """Write partial maps, as `inpaint --partial` takes them, from full ones.

    <photo's stem>.png is a label PNG, 0 where unknown. `evaluate --inpaint` completes the same maps at the same seed.
    """
    cases = _cases(kind, share, block_size, amount)
    check_output_folder(output)

    from ldmseg.data.datasets import load_dataset, parse_spec
    from ldmseg.formats.label_png import write_label_png
    from ldmseg.locking import locked

    dataset = load_dataset(data)
    files = _output_files(dataset, parse_spec(data).root, output)
    written = []
    with locked(output), Progress("partial maps", enabled=not json) as progress:
        for index, file in enumerate(files):
            case = cases[index % len(cases)]
            pmap = case.make(dataset.map(index), seed, index)
            write_label_png(file, pmap)
            written.append({"file": str(file), **case.to_dict(), "segments": len(pmap), "known": round(float((pmap.ids != 0).mean()), 4)})
            progress.update(index + 1, len(files))
    if json:
        print_json({"images": len(files), "partial": str(output), "seed": seed, "maps": written})
    else:
        say(f"{len(files)} partial maps written; use them as --partial {output}")


def _cases(kind: str, share: float | None, block_size: int | None, amount: float | None) -> list[Case]:
    from ldmseg.data.cases import KINDS, NOISY, Case

    cases = []
    for name in words(kind, "--kind", KINDS):
        density, usual = (amount, 0.03) if name in NOISY else (share, 0.5)
        cases.append(Case(name, usual if density is None else density, (block_size or 16) if name == "blocks" else None))
    for option, value, used, what in (
        ("--share", share, any(not c.noisy for c in cases), "a --kind that keeps a part"),
        ("--block-size", block_size, any(c.kind == "blocks" for c in cases), "--kind blocks"),
        ("--amount", amount, any(c.noisy for c in cases), "a noisy --kind"),
    ):
        if value is not None and not used:
            raise InputError(f"{option}: expected together with {what}, got --kind {','.join(c.kind for c in cases)}")
    return cases


def _output_files(dataset: PanopticDataset, root: Path, output: Path) -> list[Path]:
    """One label PNG per image.

    Raises:
        InputError: two images would write the same one, or one would replace a photo or another file of the data set in `root`.
    """
    from ldmseg.data.datasets import FileDataset

    own = Path(os.path.realpath(root.parent if root.is_file() else root))
    photos: set[Path] = set()
    writers: dict[Path, str] = {}
    for index in range(len(dataset)):
        if isinstance(dataset, FileDataset):
            with suppress(InputError):  # labels without photos can be thinned out too
                photos.add(Path(os.path.realpath(dataset.image_path(index))))
        name = dataset.name(index)
        file = output / f"{Path(name).stem}.png"
        if file in writers:
            raise InputError(f"--data: expected photos with different stems, got '{writers[file]}' and '{name}'")
        writers[file] = name
    for file in writers:
        written = Path(os.path.realpath(file))
        if written in photos or (written.exists() and isinstance(dataset, FileDataset) and own in written.parents):
            raise InputError(f"--output: expected a folder where nothing of the data set is replaced, got '{file}', which is there already")
    return list(writers)

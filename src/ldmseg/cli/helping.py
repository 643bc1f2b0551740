"""What `ldmseg VERB --help` shows: what it does, two examples, and the options in groups."""

from __future__ import annotations

import re
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

BASIC, SCALE, SAMPLING, LARGE, OUTPUT = "Basic", "Archives", "Sampling", "Large photos", "Output"
GROUPS = {
    SCALE: ("engine", "address", "workers", "threads", "shard_size", "max_failures", "retry_failed", "with_photos"),
    SAMPLING: (
        "steps",
        "sampler",
        "guidance_scale",
        "ensemble_size",
        "ensemble_flips",
        "method",
        "strength",
        "certain",
        "captions",
        "every",
        "seed",
    ),
    LARGE: ("tile_size", "tile_overlap", "max_pixels", "batch_size"),
    OUTPUT: (
        "boundaries",
        "min_component_area",
        "probability_threshold",
        "min_area",
        "overlap_threshold",
        "no_overlay",
        "json",
        "verbose",
        "help",
    ),
}
"""Group -> the parameters in it; all others are basic. A verb with few options shows them in one list."""

FEW = 8

EXAMPLES = {
    "segment": (
        "ldmseg segment photo.jpg holiday/ -o out --ensemble-size 8",
        "ldmseg segment clip.mp4 -o out --every 5",
        'ldmseg segment photo.jpg -o out --classes "dog, grass:stuff, ball"',
    ),
    "inpaint": (
        "ldmseg inpaint photo.jpg --partial strokes.png -o out",
        "ldmseg inpaint photos/ --partial painted/ --unknown white --clean-partial -o out",
    ),
    "label": (
        "ldmseg label photos/ -o maps",
        "ldmseg label 'train-{000..099}.tar' --to webdataset -o maps --max-failures 1000",
    ),
    "annotate": (
        "ldmseg annotate photos/ -o my-labels",
        "ldmseg annotate photos/ -o my-labels --labels classes.txt --model runs/mine/pipeline",
    ),
    "evaluate": ("ldmseg evaluate --data scenes:64:val", "ldmseg evaluate --data coco-panoptic:my-data:val --drop-rate 0.5"),
    "score": (
        "ldmseg score --gt annotations/panoptic_val2017.json --pred out/panoptic.json",
        "ldmseg score --gt truth/panoptic.json --pred out/panoptic.json --class-agnostic --only-predicted",
    ),
    "report": ("ldmseg report runs/mine", "ldmseg report runs/mine -o mine.html"),
    "info": ("ldmseg info", "ldmseg info runs/mine/pipeline --json"),
    "convert-checkpoint": (
        "ldmseg convert-checkpoint ldmseg.pt -o converted",
        "ldmseg segment photo.jpg --model converted -o out",
    ),
    "autoencoder": (
        "ldmseg train autoencoder --config scenes-autoencoder -o runs/ae",
        "ldmseg train autoencoder --config scenes-autoencoder -o runs/ae --set optim.steps=1000",
    ),
    "diffusion": (
        "ldmseg train diffusion --config finetune -o runs/mine --set data.train=labels:my-data:train",
        "ldmseg train diffusion --config finetune -o runs/mine --dry-run",
    ),
    "classifier": (
        "ldmseg train classifier --config scenes-classifier -o runs/named",
        "ldmseg evaluate --data scenes:64:val --class-aware --model runs/named/pipeline",
    ),
    "scenes": ("ldmseg data scenes --count 4 -o scenes", "ldmseg data scenes --count 100 --size 256 --seed 7 -o scenes"),
    "partial": (
        "ldmseg data partial --data coco-panoptic:scenes -o partial",
        "ldmseg data partial --data coco-panoptic:scenes --kind strokes --share 0.8 -o partial",
    ),
    "convert": (
        "ldmseg data convert --data labels:my-data:train --to coco-panoptic -o converted",
        "ldmseg data convert --data coco-panoptic:coco:val2017 --to labels -o converted",
    ),
    "check": ("ldmseg data check --data labels:my-data:train", "ldmseg data check --data coco-panoptic:coco:val2017 --json"),
    "show": ("ldmseg data show --data scenes:12 -o sheet.png", "ldmseg data show --data labels:my-data:train -o sheet.png --columns 4"),
    "cvat function": (
        "ldmseg connect cvat function",
        'cvat-cli task auto-annotate 7 --function-file "$(ldmseg connect cvat function)"',
    ),
    "cvat complete": (
        "ldmseg connect cvat complete 7 --url http://localhost:8080 --user me",
        "ldmseg connect cvat complete 7 --url http://localhost:8080 --user me --label thing --steps 50",
    ),
    "segments fetch": (
        "ldmseg connect segments fetch release.json -o exported",
        "ldmseg connect segments import exported -o mine",
    ),
    "segments upload": (
        "ldmseg connect segments upload coco-panoptic:out --to me/street",
        "ldmseg connect segments upload coco-panoptic:out --to me/street --unnamed 1",
    ),
    "cache": (
        "ldmseg data cache --data labels:my-data:train --encoder stable-diffusion -o latents",
        "ldmseg train diffusion --config finetune -o runs/mine --set data.latents=latents",
    ),
}
"""Verb -> two commands that show what it is for; verbs of `connect` that one tool alone has are under TOOL VERB."""


def examples(path: str) -> tuple[str, ...]:
    """The examples of a command by its path, `ldmseg connect cvat import`."""
    words = path.split()
    if "connect" not in words:
        return EXAMPLES.get(words[-1], ())
    tool, verb = words[-2:]
    of_every_tool = {
        "import": (f"ldmseg connect {tool} import exported -o mine", f"ldmseg connect {tool} import exported -o mine --json"),
        "export": (
            f"ldmseg connect {tool} export coco-panoptic:out -o for-{tool}",
            f"ldmseg connect {tool} export coco-panoptic:out -o for-{tool} --names coco-panoptic:mine",
        ),
    }
    return EXAMPLES.get(f"{tool} {verb}", of_every_tool.get(verb, ()))


class Command(TyperCommand):
    """A verb whose help is plain text in groups: no column is so narrow that an option's name or its values are cut."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        super(TyperCommand, self).format_help(ctx, formatter)

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        super().format_help_text(ctx, formatter)
        listed = examples(ctx.command_path)
        if listed:
            with formatter.section("Examples"):
                for example in listed:
                    formatter.write(f"{'':{formatter.current_indent}}{example}\n")

    def format_options(self, ctx: Any, formatter: Any) -> None:
        records: dict[str, list[tuple[str, str]]] = {BASIC: [], SCALE: [], SAMPLING: [], LARGE: [], OUTPUT: []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                group = next((name for name, members in GROUPS.items() if parameter.name in members), BASIC)
                records[group].append(_plain(*record))
        if sum(map(len, records.values())) <= FEW:
            records = {"Options": [record for group in records.values() for record in group]}
        for group, listed in records.items():
            if listed:
                with formatter.section(group):
                    formatter.write_dl(listed, col_max=28)


def _plain(option: str, words: str) -> tuple[str, str]:
    """An option's names and its value, the value in a letter where its type says no more, and what it means.

    A list of allowed values that is longer than a line stands in the second column, where it is wrapped.
    """
    named = re.sub(r" <(list\[)?Path\]?>", "", " ".join(option.split()))
    named = re.sub(r"<int( range)?>", "N", re.sub(r"<float( range)?>", "X", named))
    means = re.sub(r"default: \((.*?)\)", r"default: \1", words)
    allowed = re.search(r"<([\w|-]{50,})>", named)
    if allowed:
        named, means = named.replace(allowed[0], "KIND"), f"{allowed[1].replace('|', ', ')}. {means}"
    return named, means


class Group(TyperGroup):
    """The list of verbs, each with the whole first sentence of what it does."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        super(TyperGroup, self).format_help(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, (command.help or "").split("\n\n")[0]) for name, command in self.commands.items()])


def grouped(app: typer.Typer) -> None:
    """Give all verbs of an application, and of those in it, this help."""
    app.info.cls = Group
    for verb in app.registered_commands:
        verb.cls = Command
    for inner in app.registered_groups:
        if inner.typer_instance is not None:
            grouped(inner.typer_instance)

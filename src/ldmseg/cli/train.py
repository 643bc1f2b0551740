"""`ldmseg train`: every stage through the one training loop."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ldmseg.atomic import check_output_folder
from ldmseg.cli import options
from ldmseg.cli.console import Progress, configure_logging, print_json, say
from ldmseg.cli.together import together
from ldmseg.errors import InputError
from ldmseg.training.environment import launched

if TYPE_CHECKING:
    from ldmseg.config import RunConfig
    from ldmseg.training.memory import Memory
    from ldmseg.training.stages.base import Stage

app = typer.Typer(help="Train a stage; the same command resumes.")

StageName = Literal["autoencoder", "diffusion", "classifier"]

ConfigOption = Annotated[str, typer.Option("--config", metavar="NAME_OR_FILE", help="A preset's name or a YAML file.", show_default=False)]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change a key; may be repeated.", show_default=False)]
Run = Annotated[Path | None, typer.Option("--output", "-o", metavar="RUN", help="The run folder.", show_default="runs/<config name>")]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Print the resolved config, parameters, memory and steps per epoch; write, download and train nothing."),
]
OnError = Annotated[
    Literal["stop", "skip"] | None,
    typer.Option("--on-error", help="What to do when a photo or map cannot be read.", show_default="data.on_error, which is stop"),
]
TrainDevice = Annotated[Literal["auto", "cpu"], typer.Option("--device", help="auto: what accelerate finds.")]


@app.command()
def autoencoder(
    config: ConfigOption,
    set_: Set = None,
    output: Run = None,
    on_error: OnError = None,
    dry_run: DryRun = False,
    device: TrainDevice = "auto",
    json: options.Json = False,
) -> None:
    """Stage 1: the mask autoencoder."""
    _train("autoencoder", config, _overrides(set_, on_error), output, dry_run, device, json)


@app.command()
def diffusion(
    config: ConfigOption,
    set_: Set = None,
    output: Run = None,
    on_error: OnError = None,
    dry_run: DryRun = False,
    device: TrainDevice = "auto",
    json: options.Json = False,
) -> None:
    """Stage 2: the denoiser."""
    _train("diffusion", config, _overrides(set_, on_error), output, dry_run, device, json)


@app.command()
def classifier(
    config: ConfigOption,
    set_: Set = None,
    output: Run = None,
    on_error: OnError = None,
    dry_run: DryRun = False,
    device: TrainDevice = "auto",
    json: options.Json = False,
) -> None:
    """Names for segments: a classifier on a pipeline's image features."""
    _train("classifier", config, _overrides(set_, on_error), output, dry_run, device, json)


def _overrides(given: list[str] | None, on_error: str | None) -> list[str]:
    return [*(given or []), *([f"data.on_error={on_error}"] if on_error else [])]


def _train(name: StageName, source: str, overrides: list[str], output: Path | None, dry_run: bool, device: str, json: bool) -> None:
    run = output or Path("runs") / Path(source).stem
    if device == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"  # accelerate's own switch
    with together(run) as is_main:
        from ldmseg.training.trackers import check_trackers

        config = _load(name, source, overrides)
        check_output_folder(run)
        check_trackers(config.trackers)
        if dry_run:
            if is_main:
                _describe(config, json)
            return
        stage = _stage(config)
        configure_logging(verbose=is_main)
        figures = _run(stage, stage.config, run, quiet=json or not is_main)
        if json and is_main:
            print_json({"run": str(run), "pipeline": str(run / "pipeline"), **figures})


def _load(name: StageName, source: str, overrides: list[str]) -> RunConfig:
    from ldmseg.config import load_config

    config = load_config(source, overrides)
    if config.stage != name:
        raise InputError(f"--config: expected a configuration of stage {name}, got one of stage {config.stage} in '{source}'")
    return config


def _stage(config: Any) -> Stage:
    if config.stage == "autoencoder":
        from ldmseg.training.stages.autoencoder import AutoencoderStage

        return AutoencoderStage(config)
    if config.stage == "classifier":
        from ldmseg.training.stages.classifier import ClassifierStage

        return ClassifierStage(config)
    from ldmseg.training.stages.diffusion import DiffusionStage

    return DiffusionStage(config)


def _run(stage: Stage, config: RunConfig, run: Path, quiet: bool) -> dict[str, float]:
    """Train with a progress bar; the last logged figures.

    Raises:
        KeyboardInterrupt: with the line that names the command to continue.
    """
    from ldmseg.training.loop import train

    samples_per_step = config.optim.batch_size * config.optim.accumulate * launched()
    figures: dict[str, float] = {}
    before: tuple[float, int] | None = None
    with Progress("training", enabled=not quiet) as progress:

        def on_step(step: int, line: dict[str, float]) -> None:
            nonlocal before
            now = time.monotonic()
            speed = f", {(step - before[1]) * samples_per_step / max(now - before[0], 1e-9):.1f} samples/s" if before else ""
            before = now, step
            figures.update(line)
            progress.update(step, config.optim.steps, f"loss {line['loss']:.4f}, lr {line['lr']:.2e}{speed}")

        try:
            folder = train(stage, config, run, on_step)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"interrupted; the same command resumes from the newest checkpoint in {run}") from None
    if not quiet:
        say(f"trained; exported to {folder}; 'ldmseg report {run}' shows how it went")
    return figures


def _describe(config: Any, json: bool) -> None:
    """YAML that `--config` takes, with the facts as comments."""
    import yaml

    from ldmseg.training.plan import plan

    found = plan(config, launched())
    samples_per_step = config.optim.batch_size * config.optim.accumulate * launched()
    steps_per_epoch = None if found.samples is None else found.samples / samples_per_step
    values = found.config.model_dump(mode="json")
    if json:
        counts = {part.name: {"parameters": part.parameters, "trained": part.trained} for part in found.parts}
        memory = {**vars(found.memory), "total": found.memory.total, "precision": found.precision}
        facts = {"parameters": counts, "memory_bytes": memory, "samples": found.samples, "steps_per_epoch": steps_per_epoch}
        print_json({"config": values, **facts, "notes": list(found.notes)})
        return
    print(yaml.safe_dump(values, sort_keys=False), end="")
    for part in found.parts:
        print(f"# {part.name}: {part.parameters:,} parameters, {part.trained:,} trained")
    for line in _memory_lines(found.memory, f"{config.optim.batch_size} x {config.data.size} px, {found.precision}"):
        print(f"# {line}")
    if found.samples is not None and steps_per_epoch is not None:
        epochs = config.optim.steps / steps_per_epoch
        print(f"# {found.samples:,} samples, {steps_per_epoch:,.1f} steps per epoch, {epochs:,.1f} epochs")
    else:
        print(f"# {samples_per_step * config.optim.steps:,} samples are seen; steps per epoch are unknown without data.train")
    for note in found.notes:
        print(f"# note: {note}")


def _memory_lines(memory: Memory, what: str) -> list[str]:
    parts = {"weights": memory.weights, "gradients": memory.gradients, "AdamW": memory.optimizer, "average": memory.average}
    known = ", ".join(f"{name} {_size(size)}" for name, size in parts.items())
    if memory.activations is None:
        return [f"memory of one process: {known}; activations come on top"]
    return [
        f"memory of one process ({what}): about {_size(memory.total)}: {known}, activations {_size(memory.activations)}",
        "the libraries' own memory and what an allocator wastes come on top; FSDP and DeepSpeed divide it among processes",
    ]


def _size(count: int) -> str:
    return f"{count / 2**30:,.2f} GiB" if count >= 2**28 else f"{count / 2**20:,.1f} MiB"

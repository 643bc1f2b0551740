"""`ldmseg train`: both stages through the one training loop."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ldmseg.cli import options
from ldmseg.cli.console import Progress, configure_logging, print_json, say
from ldmseg.cli.outputs import check_output_folder
from ldmseg.errors import InputError

if TYPE_CHECKING:
    from ldmseg.config import RunConfig
    from ldmseg.training.stage import Stage

app = typer.Typer(help="Train a stage; the same command resumes.")

StageName = Literal["autoencoder", "diffusion"]

ConfigOption = Annotated[str, typer.Option("--config", metavar="NAME_OR_FILE", help="A preset's name or a YAML file.", show_default=False)]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change a key; may be repeated.", show_default=False)]
Run = Annotated[Path | None, typer.Option("--output", "-o", metavar="RUN", help="The run folder.", show_default="runs/<config name>")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the resolved config, parameter counts and steps per epoch; write nothing.")]
TrainDevice = Annotated[Literal["auto", "cpu"], typer.Option("--device", help="auto: what accelerate finds.")]


@app.command()
def autoencoder(
    config: ConfigOption,
    set_: Set = None,
    output: Run = None,
    dry_run: DryRun = False,
    device: TrainDevice = "auto",
    json: options.Json = False,
) -> None:
    """Stage 1: the mask autoencoder."""
    _train("autoencoder", config, set_ or [], output, dry_run, device, json)


@app.command()
def diffusion(
    config: ConfigOption,
    set_: Set = None,
    output: Run = None,
    dry_run: DryRun = False,
    device: TrainDevice = "auto",
    json: options.Json = False,
) -> None:
    """Stage 2: the denoiser."""
    _train("diffusion", config, set_ or [], output, dry_run, device, json)


def _train(name: StageName, source: str, overrides: list[str], output: Path | None, dry_run: bool, device: str, json: bool) -> None:
    from ldmseg.config import load_config

    config = load_config(source, overrides)
    if config.stage != name:
        raise InputError(f"--config: expected a configuration of stage {name}, got one of stage {config.stage} in '{source}'")
    run = output or Path("runs") / Path(source).stem
    check_output_folder(run)
    if device == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"  # accelerate's own switch, read when the loop makes its Accelerator
    stage = _stage(config)
    if dry_run:
        if _is_main_process():
            _describe(config, stage, json)
        return
    configure_logging(verbose=_is_main_process())
    figures = _run(stage, config, run, quiet=json or not _is_main_process())
    if json and _is_main_process():
        print_json({"run": str(run), "pipeline": str(run / "pipeline"), **figures})


def _stage(config: Any) -> Stage:
    if config.stage == "autoencoder":
        from ldmseg.training.autoencoder import AutoencoderStage

        return AutoencoderStage(config)
    from ldmseg.training.diffusion import DiffusionStage

    return DiffusionStage(config)


def _run(stage: Stage, config: RunConfig, run: Path, quiet: bool) -> dict[str, float]:
    """Train with a progress bar; the last logged figures.

    Raises:
        KeyboardInterrupt: with the line that says how to go on.
    """
    from ldmseg.training.loop import train

    samples_per_step = config.optim.batch_size * config.optim.accumulate * _processes()
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
        say(f"trained; exported to {folder}")
    return figures


def _describe(config: RunConfig, stage: Stage, json: bool) -> None:
    """YAML that `--config` takes, with the facts as comments."""
    import yaml

    parameters = {
        name: (sum(p.numel() for p in part.parameters()), sum(p.numel() for p in part.parameters() if p.requires_grad))
        for name, part in stage.named_children()
    }
    samples = len(stage.train_data)  # type: ignore[arg-type]  # every stage has it
    steps_per_epoch = samples / (config.optim.batch_size * config.optim.accumulate * _processes())
    values = config.model_dump(mode="json")
    if json:
        counts = {name: {"parameters": total, "trained": trained} for name, (total, trained) in parameters.items()}
        print_json({"config": values, "parameters": counts, "samples": samples, "steps_per_epoch": steps_per_epoch})
        return
    print(yaml.safe_dump(values, sort_keys=False), end="")
    for name, (total, trained) in parameters.items():
        print(f"# {name}: {total:,} parameters, {trained:,} trained")
    print(f"# {samples:,} samples, {steps_per_epoch:,.1f} steps per epoch, {config.optim.steps / steps_per_epoch:,.1f} epochs")


def _processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def _is_main_process() -> bool:
    return os.environ.get("RANK", "0") == "0"

"""The command line. Modules here import what is heavy (torch, matplotlib) inside the commands, so that `--help` answers at once."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer

from ldmseg import __version__
from ldmseg.cli import annotate, connect, convert_checkpoint, data, evaluate, helping, info, label, options, report, score, segment, train
from ldmseg.errors import InputError

__all__ = ["app", "main"]

COMPLETION = "_LDMSEG_COMPLETE"
"""Set by the script that --install-completion writes for the shell."""

USER_ERROR, FAILURE, INTERRUPTED = 2, 1, 130

app = typer.Typer(
    name="ldmseg",
    help="Panoptic segmentation and mask completion by latent diffusion.",
    epilog="A model is `default` (the bundled one), a folder, or a Hub id. `ldmseg VERB --help` lists a command's options.",
    pretty_exceptions_enable=False,
)
app.command("segment")(segment.segment)
app.command("inpaint")(segment.inpaint)
app.command("label")(label.label)
app.command("annotate")(annotate.annotate)
app.command("evaluate")(evaluate.evaluate)
app.command("score")(score.score)
app.add_typer(train.app, name="train")
app.add_typer(data.app, name="data")
app.add_typer(connect.app, name="connect")
app.command("convert-checkpoint")(convert_checkpoint.convert_checkpoint)
app.command("report")(report.report)
app.command("info")(info.info)
helping.grouped(app)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"ldmseg {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)] = False,
) -> None:
    pass


def main(args: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 2 for a user's mistake, 130 for Ctrl-C, 1 for another failure.

    A mistake that a user can make gives one line on stderr. Only a programming error ends in a traceback.
    """
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    given = list(sys.argv[1:] if args is None else args)
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:
                warnings.simplefilter("ignore")
            code = _run(options.renamed(given) or ["--help"])
            print(end="", flush=True)  # a closed pipe is noticed here, not when the interpreter ends
            return code
    except KeyboardInterrupt as stop:
        return _stop(f"ldmseg: {str(stop) or 'interrupted'}", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the interpreter's own flush stays quiet
        return FAILURE
    except InputError as error:
        return _stop(f"ldmseg: error: {error}", USER_ERROR)
    except OSError as error:
        where = f"'{os.fsdecode(error.filename)}': " if isinstance(error.filename, str | bytes | os.PathLike) else ""
        return _stop(f"ldmseg: error: {where}{error.strerror or error}", USER_ERROR)
    except FloatingPointError as error:
        return _stop(f"ldmseg: error: {error}", FAILURE)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        return _stop("ldmseg: error: out of memory; use a smaller --batch-size (optim.batch_size in training) or smaller photos", FAILURE)


def _run(args: list[str]) -> int:
    """The typer application without its own error handling, which differs between versions and swallows Ctrl-C."""
    command = typer.main.get_command(app)
    if COMPLETION in os.environ:  # a shell asks what may follow
        command.main(args, prog_name="ldmseg")
    try:
        with command.make_context("ldmseg", args) as context:
            command.invoke(context)
    except typer.Exit as leave:
        return leave.exit_code
    except Exception as error:
        if not hasattr(error, "format_message"):  # typer's usage errors, whose module depends on its version
            raise
        path = getattr(getattr(error, "ctx", None), "command_path", "ldmseg")
        raise InputError(f"{error.format_message().rstrip('.')}; see '{path} --help'") from error
    return 0


def _is_out_of_memory(error: Exception) -> bool:
    """Python's, a GPU's (`torch.OutOfMemoryError`), or that of torch's allocator on a CPU, which has no type of its own."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in str(error)


def _stop(message: str, code: int) -> int:
    print(" ".join(message.splitlines()), file=sys.stderr)
    return code

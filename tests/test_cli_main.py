from __future__ import annotations

import errno
import logging
import os
import shlex
import subprocess
import sys
from functools import cache
from typing import Any

import pytest
import typer
from command import done, refused, run

from ldmseg import __version__, cli
from ldmseg.cli import helping
from ldmseg.cli.console import Progress, configure_logging
from ldmseg.errors import InputError

VERBS = ["segment", "inpaint", "evaluate", "score", "train", "report", "data", "convert-checkpoint", "info"]
HEAVY = ["torch", "diffusers", "transformers", "accelerate", "matplotlib", "numpy", "PIL", "scipy", "skimage", "yaml"]


@pytest.mark.slow
def test_help_imports_nothing_heavy() -> None:
    asked = [[], ["--help"], *([verb, "--help"] for verb in VERBS), ["train", "diffusion", "--help"]]
    script = f"""
import sys
from ldmseg.cli import main
for args in {asked!r}:
    code = main(args)
    print("AFTER", args, code, [name for name in {HEAVY!r} if name in sys.modules])
"""
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert [line for line in shown.splitlines() if line.startswith("AFTER")] == [f"AFTER {args} 0 []" for args in asked]
    assert shown.count("Usage") == len(asked)


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    out = done(capsys, "--help").out
    assert all(verb in out for verb in VERBS)
    assert run(capsys).out == out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert done(capsys, "--version").out == f"ldmseg {__version__}\n"


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["segmnet"], "segmnet"),
        (["segment"], "IMAGE"),
        (["segment", "a.jpg"], "--output"),
        (["segment", "a.jpg", "-o", "x", "--steps", "0"], "--steps"),
        (["segment", "a.jpg", "-o", "x", "--steps", "many"], "--steps"),
        (["segment", "a.jpg", "-o", "x", "--sampler", "euler"], "--sampler"),
        (["segment", "a.jpg", "-o", "x", "--seed", "-1"], "--seed"),
        (["segment", "a.jpg", "-o", "x", "--probability-threshold", "1.5"], "--probability-threshold"),
        (["inpaint", "a.jpg", "-o", "x"], "--partial"),
        (["score", "--gt", "a.json"], "--pred"),
        (["evaluate"], "--data"),
        (["train"], "command"),
        (["train", "autoencoder"], "--config"),
        (["data", "scenes", "-o", "x"], "--count"),
        (["info", "--no-such"], "--no-such"),
    ],
)
def test_wrong_usage_is_one_line_that_names_the_argument(capsys: pytest.CaptureFixture[str], args: list[str], named: str) -> None:
    line = refused(capsys, *args)
    assert named in line
    assert "--help'" in line


def _command_that_raises(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    app = typer.Typer()

    @app.callback()
    def _group() -> None:
        pass

    @app.command()
    def fail() -> None:
        raise error

    monkeypatch.setattr(cli, "app", app)


class OutOfMemoryError(RuntimeError):
    """Named as torch names its own."""


@pytest.mark.parametrize(
    ("error", "code", "err"),
    [
        (InputError("a: expected\nb"), 2, "ldmseg: error: a: expected b\n"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/x/y"), 2, f"ldmseg: error: '/x/y': {os.strerror(errno.ENOSPC)}\n"),
        (OSError("no number"), 2, "ldmseg: error: no number\n"),
        (KeyboardInterrupt(), 130, "ldmseg: interrupted\n"),
        (KeyboardInterrupt("run it again"), 130, "ldmseg: run it again\n"),
        (FloatingPointError("the loss is nan"), 1, "ldmseg: error: the loss is nan\n"),
    ],
)
def test_failures_are_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, err: str
) -> None:
    _command_that_raises(monkeypatch, error)
    result = run(capsys, "fail")
    assert (result.code, result.out, result.err) == (code, "", err)


@pytest.mark.parametrize(
    "error", [OutOfMemoryError("Tried to .."), MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_out_of_memory_says_what_to_do(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    _command_that_raises(monkeypatch, error)
    result = run(capsys, "fail")
    assert result.code == 1
    assert result.err.count("\n") == 1 and "--batch-size" in result.err


def test_a_programming_error_is_not_hidden(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    _command_that_raises(monkeypatch, RuntimeError("bug"))
    with pytest.raises(RuntimeError, match="bug"):
        run(capsys, "fail")


@pytest.mark.skipif(os.name == "nt", reason="pipes close differently there")
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_a_closed_pipe_is_quiet(option: str) -> None:
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run([sys.executable, "-m", "ldmseg", option], stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (result.returncode, result.stderr) == (1, "")


def test_logging_goes_to_stderr_once(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("ldmseg.somewhere")
    configure_logging(verbose=False)
    configure_logging(verbose=False)
    logger.info("detail")
    logger.warning("careful")
    configure_logging(verbose=True)
    logger.info("detail")
    assert capsys.readouterr() == ("", "ldmseg: careful\nldmseg: detail\n")


def test_progress_without_a_terminal_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ldmseg.cli.console.PLAIN_EVERY", 0.0)
    with Progress("work") as progress:
        progress.update(1, 2)
        progress.update(2, 2, "loss 1")
    with Progress("work", enabled=False) as progress:
        progress.update(1, 2)
    assert capsys.readouterr() == ("", "work 1/2\nwork 2/2 loss 1\n")


def test_progress_on_a_terminal_leaves_nothing_behind(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Progress("work") as progress:
        progress.update(1, 2, "note")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.rstrip().endswith("\x1b[2K")  # the bar's last line is erased


@cache
def whole_command() -> Any:
    return typer.main.get_command(cli.app)


def leaves(command: Any = None, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every verb, as words."""
    command = command or whole_command()
    if not hasattr(command, "commands"):
        return [path]
    return [leaf for name, inner in command.commands.items() for leaf in leaves(inner, (*path, name))]


@pytest.mark.slow
@pytest.mark.parametrize("words", leaves())
def test_help_has_examples_and_cuts_nothing(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    shown = done(capsys, *words, "--help").out
    command = whole_command()
    for word in words:
        command = command.commands[word]  # type: ignore[attr-defined]
    options = [option for parameter in command.params for option in parameter.opts if option.startswith("--")]
    lines = [line for line in shown.splitlines() if line.lstrip() not in helping.examples(" ".join(("ldmseg", *words)))]
    assert max(map(len, lines)) <= 80
    assert "<bool>" not in shown and "\u2026" not in shown
    words_shown = {word.rstrip(",") for line in lines for word in line.split()}
    assert set(options) <= words_shown
    examples = helping.examples(" ".join(("ldmseg", *words)))
    assert len(examples) in (2, 3) and all(f"  {example}\n" in shown for example in examples)


@pytest.mark.parametrize("words", leaves())
def test_examples_are_commands(words: tuple[str, ...]) -> None:
    for example in helping.examples(" ".join(("ldmseg", *words))):
        program, *args = shlex.split(example)
        command = whole_command()
        while program == "ldmseg" and hasattr(command, "commands"):
            command, args = command.commands[args[0]], args[1:]
        if program == "ldmseg":
            command.make_context("x", args)  # raises at an unknown option or a wrong value


@pytest.mark.parametrize("words", [(), ("data",), ("train",)])
def test_lists_of_verbs_cut_nothing(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    shown = done(capsys, *words, "--help").out
    assert "<bool>" not in shown and "..." not in shown.replace("COMMAND [ARGS]...", "")
    assert max(map(len, shown.splitlines())) <= 80


def test_options_stand_in_groups(capsys: pytest.CaptureFixture[str]) -> None:
    shown = done(capsys, "segment", "--help").out
    at = [shown.index(f"\n{title}:\n") for title in ("Examples", "Basic", "Sampling", "Large photos", "Output")]
    assert at == sorted(at)
    assert at[2] < shown.index("--steps") < at[3] < shown.index("--tile-size") < at[4] < shown.index("--json")


def test_a_shell_completes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("_LDMSEG_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "ldmseg seg")
    monkeypatch.setenv("COMP_CWORD", "1")
    with pytest.raises(SystemExit):
        run(capsys)
    assert capsys.readouterr().out.split() == ["segment"]

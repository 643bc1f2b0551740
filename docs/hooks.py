"""Pages of the site that are made and not written: those at the root of the repository, and the reference of the command line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer
from mkdocs.structure.files import File, Files

from ldmseg.cli import app

ROOT = Path(__file__).resolve().parents[1]
AT_ROOT = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
COMMANDS = "reference/commands.md"
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Called by mkdocs once it has found the files of `docs/`."""
    for name, page in AT_ROOT.items():
        files.append(File.generated(config, page, content=moved((ROOT / name).read_text(encoding="utf-8"))))
    files.append(File.generated(config, COMMANDS, content=commands_page()))
    return files


def moved(text: str) -> str:
    """A page of the repository's root with links as seen from `docs/`. A link to a file that the site does not have becomes its text."""

    def link(found: re.Match[str]) -> str:
        label, target = found.groups()
        path, _, anchor = target.partition("#")
        if ":" in path or not path:
            return found.group()
        place = AT_ROOT.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        return label if place is None else f"[{label}]({place}{'#' * bool(anchor)}{anchor})"

    return LINK.sub(link, text)


def commands_page() -> str:
    """Every command with its arguments and options, as `--help` has them."""
    root: Any = typer.main.get_command(app)
    parts = ["# Command line", root.help, root.epilog, *_command_parts(root, "ldmseg")]
    return "\n\n".join(part for part in parts if part) + "\n"


def _command_parts(command: Any, name: str) -> list[str]:
    parts = []
    for child_name, child in command.commands.items():
        full = f"{name} {child_name}"
        if hasattr(child, "commands"):
            parts += _command_parts(child, full)
            continue
        parts += [f"## {full}", _plain(child.help), "| argument or option | is | default |\n|---|---|---|\n" + _rows(child)]
    return parts


def _plain(text: str | None) -> str:
    """Help text as markdown, where `<stem>` is no tag."""
    return (text or "").replace("<", "&lt;")


def _rows(command: Any) -> str:
    return "\n".join(f"| {_names(p)} | {_plain(p.help)} | {_default(p)} |" for p in command.params)


def _names(parameter: Any) -> str:
    """An option with its value, or an argument's name, as code (in which Python-Markdown's tables take `|` as it is)."""
    choices = get_args(parameter.type_descriptor.annotation) if _is_choice(parameter) else ()
    is_option = parameter.param_type_name == "option"
    unnamed = ("" if parameter.is_flag else "VALUE") if is_option else parameter.name.upper()
    value = parameter.metavar or "|".join(choices) or unnamed
    names = ", ".join((*parameter.opts, *parameter.secondary_opts)) if is_option else ""
    words = f"{names} {value}".strip()
    return f"`{words}`"


def _is_choice(parameter: Any) -> bool:
    return get_origin(getattr(parameter.type_descriptor, "annotation", None)) is Literal


def _default(parameter: Any) -> str:
    if isinstance(parameter.show_default, str):
        return _plain(parameter.show_default)
    shown = parameter.show_default and parameter.default is not None and parameter.default is not False and not parameter.required
    return f"`{parameter.default}`" if shown else ""

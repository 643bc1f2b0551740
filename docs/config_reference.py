"""Writes docs/config.md from the schema: every key of a run's configuration, with its type, default and meaning.

python docs/config_reference.py
"""

from __future__ import annotations

import ast
import inspect
import re
import tokenize
from io import StringIO
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from ldmseg import options
from ldmseg.config import INFERENCE, AutoencoderRunConfig, ClassifierRunConfig, DiffusionRunConfig, MixedSet, schema

PAGE = Path(__file__).with_name("config.md")
INTRODUCTION = """# Configuration of a run

This page lists every key of a training's configuration. `python docs/config_reference.py` makes it from the schema.

A configuration is YAML. It may begin with `extends: PRESET_OR_FILE` and has only the keys that differ. `--set GROUP.KEY=VALUE` changes one
key. `ldmseg train STAGE --config NAME --dry-run` prints a resolved configuration in full. [training.md](training.md) explains the stages.
"""
TYPES = {
    "Fraction": "0 to 1",
    "Positive": "whole number from 1",
    "Scale": "number above 0, up to 10",
    "Sets": "text, or a list of sets",
    "Tasks": "task: weight above 0",
    "Inference": "options, below",
    "str": "text",
    "int": "whole number",
    "float": "number",
    "bool": "true or false",
    "Thresholds": "thresholds, below",
}


def reference() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for stage, model in (("autoencoder", AutoencoderRunConfig), ("diffusion", DiffusionRunConfig), ("classifier", ClassifierRunConfig)):
        parts.append(f"## `ldmseg train {stage}`\n")
        parts += _groups(model, shared={} if stage == "autoencoder" else AutoencoderRunConfig.model_fields)
    parts.append("## One of several data sets, in `data.train`\n")
    parts += [*_prose(MixedSet), _table(MixedSet)]
    parts.append("## `inference`\n")
    parts.append("How validation and the exported pipeline sample; also the arguments of a call in Python.\n")
    parts.append(_options_table(INFERENCE, options.InferenceOptions))
    parts.append("## `inference.thresholds`\n")
    parts.append(_options_table(INFERENCE.thresholds, options.Thresholds))
    return "\n".join(parts).rstrip() + "\n"


def _groups(model: type[BaseModel], shared: dict[str, Any]) -> list[str]:
    """The keys of a run that stand alone, then each group that is not among the `shared` ones."""
    parts = [_table(model)]
    for name, entry in model.model_fields.items():
        kind = entry.annotation
        if _is_group(entry) and getattr(shared.get(name), "annotation", None) is not kind:
            parts += [f"### `{name}`\n", *_prose(kind), _table(kind)]
            parts += [
                part
                for key, inner in kind.model_fields.items()
                if _is_group(inner)
                for part in (f"### `{name}.{key}`\n", *_prose(inner.annotation), _table(inner.annotation))
            ]
    if shared:
        groups = {name: entry.annotation for name, entry in model.model_fields.items() if _is_group(entry)}
        same = [f"`{name}`" for name, kind in groups.items() if getattr(shared.get(name), "annotation", None) is kind]
        parts.insert(1, f"{', '.join(same)}: as in stage 1, above.\n")
    return parts


def _is_group(entry: Any) -> bool:
    return isinstance(entry.annotation, type) and issubclass(entry.annotation, BaseModel)


def _prose(model: type[BaseModel]) -> list[str]:
    return [f"{inspect.cleandoc(model.__doc__)}\n"] if model.__doc__ else []


def _table(model: type[BaseModel]) -> str:
    written = {}
    for base in reversed(model.__mro__):
        if issubclass(base, BaseModel) and base.__module__ == schema.__name__:
            written.update(_written(base))
    rows = ["| key | value | default | means |", "|---|---|---|---|"]
    for name, entry in model.model_fields.items():
        if not _is_group(entry):
            kind, comment = written[name]
            default = "required" if entry.is_required() else f"`{_plain(entry.default)}`"
            rows.append(f"| `{name}` | {_type(kind)} | {default} | {comment} |")
    return "\n".join(rows) + "\n"


def _written(model: type[BaseModel]) -> dict[str, tuple[str, str]]:
    """Of each key in a class's source, its type as written and its comment: on the line, or on the lines above."""
    source = inspect.getsource(model)
    comments = {
        token.start[0]: (token.string.lstrip("# "), source.splitlines()[token.start[0] - 1].lstrip().startswith("#"))
        for token in tokenize.generate_tokens(StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found = {}
    (body,) = ast.parse(source).body
    assert isinstance(body, ast.ClassDef)
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            above, line = [], node.lineno - 1
            while line in comments and comments[line][1]:
                above.insert(0, comments[line][0])
                line -= 1
            beside = comments.get(node.lineno, ("", True))
            words = " ".join([*above, *([beside[0]] if not beside[1] else [])])
            found[node.target.id] = ast.unparse(node.annotation), words.replace("|", "\\|")
    return found


def _type(written: str) -> str:
    """An annotation in words."""
    written = re.sub(r"Annotated\[(\w+), Field\(ge=0\)\]", r"\1 from 0", written)
    written = re.sub(r"Annotated\[(\w+), Field\(gt=0\)\]", r"\1 above 0", written)
    written = re.sub(r"Annotated\[(\w+), Field\(ge=([12])\)\]", r"\1 from \2", written)
    written = re.sub(r"Annotated\[(\w+), Field\(ge=0, lt=1\)\]", r"\1 from 0, below 1", written)
    written = re.sub(r"Annotated\[(tuple\[\w+, \.\.\.\]), .*\]$", r"\1", written)
    for name, value in vars(schema).items():
        if get_origin(value) is Literal:
            written = re.sub(rf"\b{name}\b", f"Literal{list(get_args(value))}", written)
    written = re.sub(r"Literal\[([^\]]*)\]", lambda found: found[1].replace("'", "`"), written)
    written = re.sub(r"tuple\[(.*), \.\.\.\]", r"list of \1", written)
    written = re.sub(r"tuple\[(\w+), \1\]", r"two of \1", written)
    for name, words in TYPES.items():
        written = re.sub(rf"(?<!`)\b{name}\b(?!`)", words, written)
    return written.replace(" | None", ", or none").replace("|", "or")


def _options_table(defaults: Any, kind: type) -> str:
    means = dict(re.findall(r"^        (\w+): (.*?)(?=^        \w+: |^    \w|\Z)", (kind.__doc__ or "") + "\n    x", flags=re.M | re.S))
    rows = ["| key | default | means |", "|---|---|---|"]
    for name in (key for key in vars(defaults) if key in means):
        value = getattr(defaults, name)
        shown = "below" if isinstance(value, options.Thresholds) else f"`{_plain(value)}`"
        rows.append(f"| `{name}` | {shown} | {' '.join(means[name].split())} |")
    return "\n".join(rows) + "\n"


def _plain(value: Any) -> str:
    """A value as YAML has it."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_plain, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_plain(one)}' for key, one in value.items())}}}"
    return str(value)


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")

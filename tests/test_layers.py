"""The architecture as a test: who may import whom, read from the source without running it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src"

# A module imports only from its own row or a row above. A package's name covers everything in it.
ROWS: tuple[tuple[str, ...], ...] = (
    ("errors", "panoptic", "devices", "choices", "options", "atomic", "locking", "config"),
    ("codes", "dense", "palette", "formats", "metrics", "visualize"),
    ("images", "models", "diffusion", "inference"),
    ("pipeline", "segmenters", "data"),
    ("training", "runs", "evaluate", "labelling", "connect"),
    ("annotate", "cli", "__main__"),
)
WITHOUT_TORCH = (
    "errors",
    "panoptic",
    "choices",
    "options",
    "atomic",
    "locking",
    "config",
    "dense",
    "palette",
    "formats",
    "metrics",
    "visualize",
)
NEVER = {"models": ("data", "metrics"), "pipeline": ("training",)}
DEVICE_NAME = re.compile(r"cuda(:\d+)?")


@dataclass(frozen=True)
class Import:
    """`module` as written or, for a module of the package, in full; `line` where."""

    module: str
    line: int


@cache
def modules() -> dict[str, Path]:
    """Dotted name -> file, of every module of the package."""
    found = {}
    for path in sorted((SOURCE / "ldmseg").rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


@cache
def imports(module: str) -> tuple[Import, ...]:
    """Every import of a module, also inside functions and under TYPE_CHECKING."""
    is_package = modules()[module].name == "__init__.py"
    found = []
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")[: len(module.split(".")) - node.level + is_package]
                base = ".".join([*parents, base] if base else parents)
            for alias in node.names:  # `from package import module` names the module
                full = f"{base}.{alias.name}"
                found.append(Import(full if full in modules() else base, node.lineno))
    return tuple(found)


def part(module: str) -> str:
    """`ldmseg.formats.image` -> `formats`; the name that the rows know."""
    return module.split(".")[1]


def row(module: str) -> int | None:
    return next((number for number, parts in enumerate(ROWS) if part(module) in parts), None)


def in_package(module: str) -> bool:
    return module.startswith("ldmseg.")


def where(module: str, line: int) -> str:
    return f"{modules()[module].relative_to(SOURCE.parent)}:{line}"


def test_every_module_has_a_row() -> None:
    homeless = [name for name in modules() if in_package(name) and row(name) is None]
    assert not homeless, f"give these a row in {Path(__file__).name}: {', '.join(homeless)}"


@pytest.mark.slow
def test_imports_go_up_only() -> None:
    wrong = [
        f"{where(name, found.line)}: {part(name)} (row {row(name)}) imports {found.module} (row {row(found.module)})"
        for name in modules()
        if in_package(name)
        for found in imports(name)
        if in_package(found.module) and (row(found.module) or 0) > (row(name) or 0)
    ]
    assert not wrong, "\n".join(wrong)


def test_only_a_map_forwards_to_later_rows() -> None:
    """An import by name would hide from these tests; `panoptic` needs it for the methods that users look for, and nothing else does."""
    wrong = [name for name in modules() if in_package(name) and "import_module" in modules()[name].read_text(encoding="utf-8")]
    assert wrong == ["ldmseg.panoptic"]


@pytest.mark.slow
def test_some_parts_never_meet() -> None:
    wrong = [
        f"{where(name, found.line)}: {part(name)} imports {found.module}"
        for name in modules()
        if in_package(name)
        for found in imports(name)
        if in_package(found.module) and part(found.module) in NEVER.get(part(name), ())
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_modules_import_from_a_names_home_and_not_from_the_package_itself() -> None:
    """`from ldmseg import X` inside the package would hide which row X is in."""
    wrong = []
    for name in modules():
        for node in ast.walk(tree(name)):
            if isinstance(node, ast.ImportFrom) and node.module == "ldmseg" and not node.level:
                names = [a.name for a in node.names if a.name != "__version__" and f"ldmseg.{a.name}" not in modules()]
                wrong += [f"{where(name, node.lineno)}: from ldmseg import {', '.join(names)}"] * bool(names)
    assert not wrong, "\n".join(wrong)


def test_numpy_only_parts_name_no_torch() -> None:
    wrong = [
        f"{where(name, found.line)}: {found.module}"
        for name in modules()
        if in_package(name) and part(name) in WITHOUT_TORCH
        for found in imports(name)
        if found.module.split(".")[0] in ("torch", "diffusers", "accelerate", "transformers")
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_importing_the_numpy_only_parts_loads_no_torch() -> None:
    names = ["ldmseg", *(name for name in modules() if in_package(name) and part(name) in WITHOUT_TORCH), "ldmseg.cli"]
    code = f"import sys, {', '.join(names)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_only_one_module_names_a_device() -> None:
    wrong = [
        f"{where(name, node.lineno)}: {node.value!r}"
        for name in modules()
        if name != "ldmseg.devices"
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and DEVICE_NAME.fullmatch(node.value)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_only_the_command_line_prints() -> None:
    wrong = [
        f"{where(name, node.lineno)}"
        for name in modules()
        if not name.startswith("ldmseg.cli")
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("module", "code", "expected"),
    [
        ("ldmseg.a.b", "from .c import d", "ldmseg.a.c"),
        ("ldmseg.a.b", "from ..e import f", "ldmseg.e"),
        ("ldmseg.a.b", "def g():\n    import torch.nn", "torch.nn"),
    ],
)
def test_imports_are_found_wherever_they_are(
    module: str, code: str, expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(modules(), module, tmp_path / "b.py")
    (tmp_path / "b.py").write_text(code, encoding="utf-8")
    tree.cache_clear()
    assert [found.module for found in imports.__wrapped__(module)] == [expected]
    tree.cache_clear()

"""The documentation's site: what its navigation and reference pages name, the pages that its hook makes, and the files for a host."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from test_layers import ROWS

import ldmseg

ROOT = Path(__file__).resolve().parents[1]
MADE = {"index.md", "contributing.md", "changelog.md", "reference/commands.md"}


@pytest.fixture
def hooks() -> ModuleType:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed (the extra `docs`)")
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pages_in(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [page for item in (nav.values() if isinstance(nav, dict) else nav) for page in pages_in(item)]


def test_navigation_names_every_page_once() -> None:
    named = pages_in(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    written = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert sorted(named) == sorted(written | MADE)


def test_reference_pages_have_every_public_name() -> None:
    pages = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "reference").glob("*.md"))
    documented = set(re.findall(r"^::: (\S+)$", pages, flags=re.MULTILINE))
    homes = {name: ldmseg._HOMES[name] for name in ldmseg.__all__ if name != "__version__"}
    missing = {name: home for name, home in homes.items() if not {home, f"{home}.{name}"} & documented}
    # A package's names are those of its modules, because a reference page of a package lists what is defined in it.
    missing = {name: home for name, home in missing.items() if getattr(ldmseg, name).__module__ not in documented}
    assert not missing, missing


def test_links_of_the_root_pages_are_moved(hooks: ModuleType) -> None:
    text = "![x](docs/images/a.png) [y](docs/python.md#maps) [licence](LICENSE) [c](CONTRIBUTING.md) [w](https://example.org) [s](#start)"
    moved = "![x](images/a.png) [y](python.md#maps) licence [c](contributing.md) [w](https://example.org) [s](#start)"
    assert hooks.moved(text) == moved


def test_command_page_has_every_command_and_option(hooks: ModuleType) -> None:
    page = hooks.commands_page()
    for name in ("segment", "inpaint", "train diffusion", "data partial", "convert-checkpoint"):
        assert f"## ldmseg {name}\n" in page
    assert "| `--sampler ddim|ddpm|renoise` | " in page and "| `--seed VALUE` | " in page
    assert re.search(r"^\| `--seed VALUE` \| [^|]+ \| `0` \|$", page, flags=re.MULTILINE)
    assert "<" not in page.replace("&lt;", "")


def test_hosted_check_runs_the_repositorys_own() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    job = workflow["jobs"]["check"]
    assert ".ci/run" in [step.get("run") for step in job["steps"]]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {line.rsplit(" ", 1)[1] for line in project["classifiers"] if re.search(r":: 3\.\d+$", line)}
    assert set(job["strategy"]["matrix"]["python"]) <= declared
    for path in (ROOT / ".github").rglob("*.yml"):
        assert yaml.safe_load(path.read_text(encoding="utf-8"))


def test_picture_of_the_road_is_the_scripts_and_its_modules_exist() -> None:
    spec = importlib.util.spec_from_file_location("road", ROOT / "benchmarks" / "road.py")
    assert spec is not None and spec.loader is not None
    road = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = road  # dataclasses look their module up
    spec.loader.exec_module(road)
    assert (ROOT / "docs/images/road.svg").read_text(encoding="utf-8") == road.picture(), "run python benchmarks/road.py"
    for stage in road.STAGES:
        folder = ROOT / "src/ldmseg"
        for name in stage.modules.split(", "):
            folder = (ROOT / "src/ldmseg" / name).parent if "/" in name else folder
            assert (folder / Path(name).name).is_file(), name


def test_contributing_has_the_layers_that_the_test_enforces() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d) \| ([^|]+) \|", text, flags=re.MULTILINE)
    written = [set(re.findall(r"`(\w+)`", modules)) for _, modules in rows]
    existing = {path.stem for path in (ROOT / "src/ldmseg").iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert written == [set(row) & existing - {"__main__"} for row in ROWS]


def test_python_page_has_every_option_and_the_models_defaults() -> None:
    """`docs/python.md` has a row for each field of `InferenceOptions`, with the bundled model's value."""
    section = (ROOT / "docs/python.md").read_text(encoding="utf-8").split("## Options")[1].split("## Other arguments")[0]
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| .* \| ([^|]+) \|$", section, re.MULTILINE)
    written = {name: value.strip().strip('`"') for names, value in rows for name in re.findall(r"`(\w+)`", names)}
    config = json.loads((ROOT / "src/ldmseg/weights/default/model_index.json").read_text(encoding="utf-8"))["inference"]
    assert set(written) == {field.name for field in fields(ldmseg.InferenceOptions)}
    wrong = {name: config[name] for name in written if name != "thresholds" and written[name] != f"{config[name]}".removesuffix(".0")}
    assert not wrong, wrong

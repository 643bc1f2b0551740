"""What the repository says about itself is true: commands, options, presets, names, links, versions."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shlex
import subprocess
import tomllib
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from hypothesis import settings

import ldmseg
from ldmseg.cli import app
from ldmseg.config import load_config, preset_names

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md"),
    *sorted(str(p.relative_to(ROOT)) for folder in ("docs", "docs/connect") for p in (ROOT / folder).glob("*.md")),
)
PUBLIC_NAMES = (
    "PanopticMap",
    "Segment",
    "VOID",
    "LDMSegPipeline",
    "MaskAutoencoder",
    "ImageEncoder",
    "build_denoiser",
    "sample",
    "encode_ids",
    "decode_ids",
    "PanopticQuality",
    "load_dataset",
    "load_config",
)
LARGEST = 5_000_000  # bytes, of anything but weights
MACHINE_PATH = re.compile(r"(?<![\w.~/-])/(?:work|root|tmp|home/\w+|Users/\w+)/")
# Words that make a person of a function or hide the subject; the field's nouns are clearer.
NOT_PLAIN = re.compile(r"\b(nobody|somebody|whoever|upside|mute|shuns?|has an eye|own affair|with one voice)\b", re.IGNORECASE)
PLACEHOLDER = re.compile(r"\{\{.*?\}\}")


# ------------------------------------------------------------------------------------------------------------------------ files
@cache
def tracked() -> tuple[Path, ...]:
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return tuple(path for name in listed.split("\0") if name and (path := ROOT / name).is_file())


def test_no_large_files_but_weights() -> None:
    large = [
        f"{path.relative_to(ROOT)}: {path.stat().st_size / 1e6:.1f} MB"
        for path in tracked()
        if path.stat().st_size > LARGEST and "weights" not in path.relative_to(ROOT).parts
    ]
    assert not large, "\n".join(large)


def test_no_path_of_somebodys_machine() -> None:
    found = []
    for path in tracked():
        if path.suffix not in (".png", ".jpg", ".safetensors", ".npy", ".npz"):
            for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
                if MACHINE_PATH.search(line):
                    found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert not found, "\n".join(found)


def test_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    newest = re.search(r"^## (\d\S*)", page("CHANGELOG.md"), flags=re.MULTILINE)
    assert newest is not None
    assert {project["version"], ldmseg.__version__, citation["version"], newest.group(1)} == {project["version"]}


def test_every_direct_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)]
    names = {re.split(r"[\s<>=!~\[;]", d, maxsplit=1)[0].lower() for d in wanted}
    pinned = {
        m.group(1).lower() for m in re.finditer(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert not names - pinned, f"constraints.txt does not pin {', '.join(sorted(names - pinned))}"


def test_the_dockerfile_agrees_with_the_readme_and_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = page("Dockerfile").splitlines()
    shown = [shlex.split(line.removeprefix("#   ")) for line in lines if line.startswith("#   docker")]
    assert len(shown) == 2 and shown == [words for words in commands("README.md") if words[0] == "docker"]
    steps = [line.split(maxsplit=1) for line in lines if line and line[0] != "#"]
    copied = {name for kind, rest in steps if kind == "COPY" for name in rest.split()[:-1]}
    assert all((ROOT / name).exists() for name in copied)
    assert copied >= {"pyproject.toml", project["readme"], *project["license-files"], "src"}  # without these nothing can be built
    (install,) = (shlex.split(rest) for kind, rest in steps if kind == "RUN")
    assert install[:2] == ["pip", "install"] and install[install.index("--constraint") + 1] in copied
    extras = re.fullmatch(r"\.\[([\w,]+)\]", install[-1])
    assert extras is not None and set(extras[1].split(",")) <= set(project["optional-dependencies"])
    ((_, base),) = (step for step in steps if step[0] == "FROM")
    version = re.fullmatch(r"python:3\.(\d+)-slim", base)
    assert version is not None and int(version[1]) >= int(project["requires-python"].removeprefix(">=3."))
    ((_, program),) = (step for step in steps if step[0] == "ENTRYPOINT")
    assert json.loads(program)[0] in project["scripts"]


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_public_names(name: str) -> None:
    assert getattr(ldmseg, name) is not None
    assert name in ldmseg.__all__


# ------------------------------------------------------------------------------------------------------------------------ pages
@cache
def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    """The fenced code of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page(name), flags=re.MULTILINE | re.DOTALL)


def commands(name: str) -> list[list[str]]:
    """Every command line in a page's bash blocks, as words; comments, prompts and `VARIABLE=value` prefixes are taken off."""
    lines = "\n".join(blocks(name, "bash")).replace("\\\n", " ").splitlines()
    found = (shlex.split(line.removeprefix("$ "), comments=True) for line in lines)
    return [words for line in found if (words := line[next((i for i, w in enumerate(line) if not re.match(r"[A-Z_]+=", w)), len(line)) :])]


def ldmseg_arguments(words: list[str]) -> list[str] | None:
    """What follows `ldmseg`, also behind `accelerate launch .. -m`."""
    program = Path(words[0]).name
    if program == "ldmseg":
        return words[1:]
    if program in ("accelerate", "python", "torchrun") and "ldmseg" in words:
        return words[words.index("ldmseg") + 1 :]
    return None


@pytest.mark.parametrize("name", PAGES)
def test_no_placeholder_is_left(name: str) -> None:
    left = PLACEHOLDER.findall(page(name))
    assert not left, f"{name}: fill in {', '.join(left)}"


def test_pages_and_source_are_in_plain_words() -> None:
    files = [ROOT / name for name in PAGES] + sorted((ROOT / "src").rglob("*.py"))
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if NOT_PLAIN.search(line)
    ]
    assert not found, "\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_commands_exist(name: str) -> None:
    root: Any = typer.main.get_command(app)
    wrong = []
    for words in commands(name):
        arguments = ldmseg_arguments(words)
        if arguments is None:
            continue
        command, rest = root, arguments
        while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
            command, rest = command.commands.get(rest[0]), rest[1:]
            if command is None:
                break
        if command is None or (hasattr(command, "commands") and not rest):
            wrong.append(f"no such command: {shlex.join(words)}")
            continue
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
        unknown = [word for word in rest if re.match(r"--?[A-Za-z]", word) and word.split("=")[0] not in known]
        if unknown:
            wrong.append(f"no such option: {', '.join(unknown)} in: {shlex.join(words)}")
    assert not wrong, "\n".join([f"{name}:", *wrong])


@pytest.mark.parametrize("name", PAGES)
def test_presets_and_overrides_exist(name: str) -> None:
    for words in commands(name):
        arguments = ldmseg_arguments(words)
        if arguments and arguments[0] == "train":
            config = arguments[arguments.index("--config") + 1]
            overrides = [value for option, value in pairwise(arguments) if option == "--set"]
            if not config.endswith((".yaml", ".yml")):
                assert config in preset_names(), f"{name}: no preset {config!r}"
                assert load_config(config, overrides).stage == arguments[1]
    for preset in re.findall(r"preset `([\w-]+)`", page(name)):
        assert preset in preset_names(), f"{name}: no preset {preset!r}"


@pytest.mark.parametrize("name", PAGES)
def test_configurations_shown_are_valid(name: str, tmp_path: Path) -> None:
    for text in blocks(name, "yaml"):
        path = tmp_path / "config.yaml"
        path.write_text(text, encoding="utf-8")
        load_config(path)


@pytest.mark.parametrize("name", PAGES)
def test_make_targets_and_scripts_exist(name: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    for words in commands(name):
        if words[0] == "make":
            assert {word for word in words[1:] if "=" not in word} <= targets, f"{name}: {shlex.join(words)}"
        if words[0] == "python" and len(words) > 1 and words[1].endswith(".py"):
            assert (ROOT / words[1]).is_file(), f"{name}: {shlex.join(words)}"


@pytest.mark.parametrize("name", PAGES)
def test_python_examples_compile_and_their_imports_exist(name: str) -> None:
    for code in blocks(name, "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ldmseg":
                module = importlib.import_module(node.module or "")
                missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
                assert not missing, f"{name}: {node.module} has no {', '.join(missing)}"


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    folder = (ROOT / name).parent
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page(name)) + re.findall(r'(?:src|href)="([^"#]+)"', page(name))
    missing = [link for link in links if not re.match(r"\w+:", link) and not (folder / link).exists()]
    assert not missing, f"{name}: {', '.join(missing)}"


@pytest.mark.parametrize("name", PAGES)
def test_named_files_exist(name: str) -> None:
    """Paths in backticks that begin with a folder of the repository."""
    named = re.findall(r"`((?:src|docs|tests|benchmarks|examples|\.ci)/[\w./-]+)`", page(name))
    missing = [path for path in named if not (ROOT / path).exists()]
    assert not missing, f"{name}: {', '.join(missing)}"


def test_no_test_depends_on_the_clock() -> None:
    """The profile of conftest is loaded, and no test of its own sets a deadline or measures how long something takes."""
    assert settings.default is not None and settings.default.deadline is None
    for path in sorted((ROOT / "tests").glob("test_*.py")):
        if path != Path(__file__).resolve():
            found = re.search(r"deadline=\d|perf_counter|process_time|os\.times\(|monotonic\(\) - ", path.read_text(encoding="utf-8"))
            assert found is None, f"{path.name}: {found}"


RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
OWN_TRAINING = {  # their networks are trained or made by the benchmark itself
    "convert_checkpoint",
    "evaluation_size",
    "feature_cache",
    "full_size_step",
    "id_policies",
    "input_pipeline",
    "latent_cache",
    "nuclei",
    "panoptic_quality",
    "rivals",
    "scenes",
    "speed_full_size",
    "speed_processes",
}


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: file.stem)
def test_every_result_says_how_it_was_made(file: Path) -> None:
    result = json.loads(file.read_text(encoding="utf-8"))
    assert result["benchmark"] == file.stem and re.search(r"python benchmarks/\w+\.py", result["command"])
    assert re.fullmatch("[0-9a-f]{7,}", result["commit"]["hash"]) and result["commit"]["dirty"] is False
    assert {"cpu", "cores", "python"} <= set(result["machine"]) and result["figures"]
    if file.stem not in OWN_TRAINING:
        assert re.fullmatch("[0-9a-f]{64}", result["model"]["weights_sha256"])

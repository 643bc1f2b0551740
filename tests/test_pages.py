"""Figures on pages are those of the committed results."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILLED = {"ambiguity": "docs/confidence.md", "confidence": "docs/confidence.md"}
"""Benchmarks that write a part of a page, between marks of their name."""


def benchmark(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", FILLED)
def test_a_page_has_the_results_figures(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = benchmark(name, monkeypatch)
    results = benchmark("_results", monkeypatch)
    page = (ROOT / FILLED[name]).read_text(encoding="utf-8")
    assert results.filled(page, name, module.page_text(results.read_result(name))) == page, f"run python benchmarks/{name}.py --page"


def test_what_is_kept_of_a_killed_measurement_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = benchmark("ambiguity", monkeypatch)._kept
    file = tmp_path / "model.jsonl"
    assert kept(file) == []
    file.write_text('{"photo": "a"}\n{"photo": "b"}\n{"pho')
    assert [one["photo"] for one in kept(file)] == ["a", "b"]
    assert file.read_text() == '{"photo": "a"}\n{"photo": "b"}\n'

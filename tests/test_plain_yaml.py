from __future__ import annotations

import re
import subprocess
import sys
import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ldmseg.config import load_config, preset_names, validate_config
from ldmseg.config.plain_yaml import PlainYamlError, read_yaml
from ldmseg.errors import InputError, quoted, shortened

BOMB = "a: &a [" + ",".join(["x" * 8] * 9) + "]\n" + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in pairwise("abcdefghi"))
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text("abcxyz", min_size=1), inside, max_size=3),
    max_leaves=12,
)


@pytest.mark.slow
@given(PLAIN)
def test_plain_values_come_back(value: Any) -> None:
    assert read_yaml(yaml.safe_dump(value)) == value


@pytest.mark.parametrize("name", preset_names())
def test_presets_and_what_runs_write_are_plain(name: str) -> None:
    values = load_config(name).model_dump(mode="json")
    assert validate_config(read_yaml(yaml.safe_dump(values))).model_dump(mode="json") == values


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        "a: &x 1\nb: *x",
        "a: &x 1",
        "!!bool x",
        "!!timestamp x",
        "!!python/object:os.system x",
        "!!binary 0",
        "[" * 50_000,
        "[" * 50_000 + "]" * 50_000,
        "{a: " * 50_000,
        "- " * 50_000,
        '"\\U00110000"',
        "0b_",
        "1" * 5000,
        "{1: 2}",
        "{a: 1, a: 2}",
        "? [a]\n: b",
        "\0",
        "<<: 3",
        "a: " + "x" * 2**20,
        "'" + "unclosed " * 1000,
    ],
)
def test_what_is_not_plain_is_refused_in_a_short_line(text: str, tmp_path: Path) -> None:
    with pytest.raises(PlainYamlError) as caught:
        read_yaml(text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) <= 300
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(InputError, match=r"^--config: expected YAML in"):
        load_config(tmp_path / "a.yaml")


DATES = ["2020-13-45", "2020-01-01", "10:30"]
STRANGE = [*DATES, "0b_", "1" * 5000, ".nan", "!!bool x", "!!timestamp x", "[" * 5000]
STRANGE += ['"\\U00110000"', "[[[[1]]]]", "x" * 10**6, "\ud800", "{a: {b: c}}"]


@pytest.mark.slow
@pytest.mark.parametrize("value", STRANGE, ids=range(len(STRANGE)))
@pytest.mark.parametrize("key", ["seed", "optim.lr", "data.scene_segments", "data.train.x", "trackers", "nothing", "x" * 1000])
def test_any_value_of_any_key_is_answered_in_one_line(key: str, value: str) -> None:
    with pytest.raises(InputError) as caught:
        load_config("scenes-diffusion", [f"{key}={value}"])
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    str(caught.value).encode()


def test_colons_make_no_number() -> None:
    assert read_yaml("[10:30, 1:2.5, 2020-01-01, 0x10, 1_000]") == ["10:30", "1:2.5", "2020-01-01", 16, 1000]


def test_extending(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number}.yaml").write_text(f"extends: {tmp_path / str(number + 1)}.yaml")
    with pytest.raises(InputError, match="extends: expected at most 16 files"):
        load_config(tmp_path / "0.yaml")
    (tmp_path / "0.yaml").write_text("extends: [a, b]")
    with pytest.raises(InputError, match=r"extends: expected a preset's name or a file, got \['a', 'b'\]"):
        load_config(tmp_path / "0.yaml")
    for name in ("x" * 5000, '"\\0"'):
        (tmp_path / "0.yaml").write_text(f"extends: {name}")
        with pytest.raises(InputError, match="--config: expected a file or one of"):
            load_config(tmp_path / "0.yaml")


HUGE = [10**5000, -(10**5000), "x" * 10**7, ["y" * 10**6] * 10**5, {"a": {"b": {"c": {"d": 1}}}}, "\ud800\0\n", b"x" * 10**6]


@pytest.mark.parametrize("value", HUGE, ids=range(len(HUGE)))
def test_a_quoted_value_has_at_most_80_characters(value: Any) -> None:
    tracemalloc.start()
    text = quoted(value)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(text) <= 80 and "\n" not in text and peak < 10**8
    text.encode()


def test_quoting_is_repr_where_that_is_short() -> None:
    for value in (1, 1.5, "a", None, True, [1, 2], (1, "x"), {"a": 1}, "it's"):
        assert quoted(value) == repr(value)
    assert shortened("a\n b") == "a b" and shortened("x" * 99, 10) == "xxxx..xxxx"


@pytest.mark.slow
def test_a_bomb_costs_nothing(tmp_path: Path) -> None:
    """219 bytes made an error line of 522,271 characters, and nine levels hung."""
    (tmp_path / "bomb.yaml").write_text(BOMB)
    command = [sys.executable, "-m", "ldmseg", "train", "diffusion", "--config", str(tmp_path / "bomb.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 2 and done.stdout == "" and len(done.stderr) < 500 and done.stderr.count("\n") == 1


def test_whatever_came_is_quoted_by_the_one_function() -> None:
    for path in sorted((Path(__file__).resolve().parents[1] / "src").rglob("*.py")):
        found = re.search(r"got \{[^{}!]+!r\}", path.read_text(encoding="utf-8"))
        assert found is None, f"{path.name}: {found}"

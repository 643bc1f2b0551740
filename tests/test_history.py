from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_folder import train_line, val_line, write_run

from ldmseg.runs.history import Network, Series, Start, read_history, read_starts, record_start


def test_figures_of_training_and_validation_apart(tmp_path: Path) -> None:
    lines = [train_line(20, 5.0, ce=0.7), train_line(40, 9.0, ce=0.6), val_line(40, 0.25), train_line(60, 15.0, ce=0.5), val_line(60, 0.2)]
    history = read_history(write_run(tmp_path / "run", "autoencoder", lines))
    assert [series.name for series in history.training] == ["loss", "grad_norm", "lr", "ce"]
    assert history.figure("ce") == Series("ce", (20, 40, 60), (0.7, 0.6, 0.5))
    assert history.validated("pq") == Series("pq", (40, 60), (0.25, 0.2))
    assert history.figure("pq") is None and history.validated("ce") is None
    assert (history.last_step, history.seconds, history.best, history.damaged) == (60, 15.0, 40, ())
    assert history.validated("pq").at(60) == 0.2 and history.validated("pq").at(50) is None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[1]",
        "null",
        '{"loss": 1}',
        '{"step": "1", "loss": 1}',
        '{"step": 1, "loss": "x"}',
        '{"step": 1}',
        '{"step": -1, "loss": 1}',
        "",
    ],
)
def test_a_damaged_line_is_left_out_and_counted(tmp_path: Path, text: str) -> None:
    lines = [train_line(20, 5.0), text + "\n", train_line(40, 9.0)]
    history = read_history(write_run(tmp_path / "run", "autoencoder", lines))
    assert history.damaged == (2,)
    assert history.figure("grad_norm") == Series("grad_norm", (20, 40), (1.0, 1.0))


def test_bytes_of_no_text_are_a_damaged_line(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "autoencoder", [train_line(20, 5.0)])
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(b"\xff\xfe\x00\n")
    assert read_history(run).damaged == (2,)


def test_a_line_that_is_being_written_is_no_damage(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "autoencoder", [train_line(20, 5.0), '{"step": 40, "lo'])
    history = read_history(run)
    assert history.damaged == () and history.last_step == 20


def test_what_is_not_finite_leaves_a_gap_and_a_later_line_counts(tmp_path: Path) -> None:
    lines = [
        train_line(20, 5.0),
        train_line(40, 9.0, grad_norm=float("inf")),
        train_line(20, 5.0, grad_norm=3.0),
        val_line(40, float("nan")),
    ]
    history = read_history(write_run(tmp_path / "run", "autoencoder", lines))
    assert history.figure("grad_norm") == Series("grad_norm", (20,), (3.0,))
    assert history.validated("pq") is None and history.best is None


def test_nothing_logged(tmp_path: Path) -> None:
    history = read_history(tmp_path)
    assert (history.training, history.validation, history.sessions, history.speed) == ((), (), (), None)
    assert (history.last_step, history.seconds, history.best) == (0, 0, None)


def test_speed_leaves_validations_and_resumptions_out(tmp_path: Path) -> None:
    lines = [
        train_line(20, 10.0),
        train_line(40, 20.0),
        val_line(40, 0.1),
        train_line(60, 90.0),
        train_line(80, 95.0),
        train_line(100, 97.0),
    ]
    run = write_run(tmp_path / "run", "autoencoder", lines)
    assert read_history(run).speed == Series("speed", (40, 80, 100), (2.0, 4.0, 10.0))
    record_start(run, Start(0))
    record_start(run, Start(80))
    assert read_history(run).speed == Series("speed", (40, 80), (2.0, 4.0))


# ----------------------------------------------------------------------------------------------------------------------- sessions
def test_a_clock_that_goes_back_tells_of_a_resumption(tmp_path: Path) -> None:
    lines = [train_line(20, 10.0), train_line(40, 20.0), train_line(60, 8.0), train_line(80, 16.0)]
    sessions = read_history(write_run(tmp_path / "run", "autoencoder", lines)).sessions
    assert [(s.start.step, s.last_step, s.seconds, s.steps) for s in sessions] == [(0, 40, 20.0, 40), (40, 80, 16.0, 40)]


def test_starts_are_known_when_they_were_written_down(tmp_path: Path) -> None:
    lines = [train_line(20, 10.0), train_line(40, 20.0), train_line(60, 28.0), train_line(80, 36.0)]  # here the clock tells nothing
    run = write_run(tmp_path / "run", "autoencoder", lines)
    record_start(run, Start(0, processes=1))
    record_start(run, Start(40, processes=2))
    record_start(run, Start(40, processes=4))  # the second one lost all its steps
    sessions = read_history(run).sessions
    assert [(s.start.processes, s.last_step, s.seconds) for s in sessions] == [(1, 40, 20.0), (4, 80, 36.0)]
    assert all(s.start.time is not None for s in sessions)


def test_a_run_that_an_older_version_began(tmp_path: Path) -> None:
    lines = [train_line(20, 10.0), train_line(40, 5.0), train_line(60, 8.0), train_line(80, 5.0)]
    run = write_run(tmp_path / "run", "autoencoder", lines)
    record_start(run, Start(60, processes=2))
    sessions = read_history(run).sessions
    assert [(s.start.step, s.start.processes, s.last_step) for s in sessions] == [(0, None, 20), (20, None, 60), (60, 2, 80)]


def test_starts_of_other_versions_and_damaged_ones(tmp_path: Path) -> None:
    record_start(tmp_path, Start(0, device="cpu"))
    with (tmp_path / "starts.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 5, "colour": "blue"}\n{"step": "x"}\n{"networks": []}\n[]\n{"step": 9, "networks": [{"size": 1}]}\n{')
    assert [(start.step, start.device) for start in read_starts(tmp_path)] == [(0, "cpu"), (5, None)]


@pytest.mark.parametrize(
    "line",
    [
        "[" * 100_000,
        '{"step": 5, "networks": [{"name": "a", "parameters": {"b": 1}}]}',
        '{"step": 5, "networks": [{"name": "a", "parameters": null}]}',
        '{"step": 5, "networks": [{"name": 7, "parameters": 1}]}',
        '{"step": 5, "networks": [{"name": null, "parameters": 1}]}',
        '{"step": 5, "time": 2026}',
        '{"step": 5, "processes": "two"}',
        '{"step": 5, "samples_per_step": -1}',
        f'{{"step": 1{"0" * 400}}}',
    ],
)
def test_a_start_of_other_types_is_left_out(tmp_path: Path, line: str) -> None:
    (tmp_path / "starts.jsonl").write_text(line + "\n")
    assert read_starts(tmp_path) == ()


@pytest.mark.slow
@given(
    st.builds(
        Start,
        step=st.integers(0, 10**9),
        time=st.none() | st.text(),
        processes=st.none() | st.integers(1, 10**4),
        machine=st.none() | st.text(),
        networks=st.lists(st.builds(Network, st.text(), st.integers(0, 2**62), st.none() | st.integers(0, 2**62))).map(tuple),
    )
)
def test_a_start_comes_back_as_it_was(start: Start) -> None:
    line = start.to_json()
    assert "\n" not in line and json.loads(line)["step"] == start.step
    assert Start.from_json(line) == start

from __future__ import annotations

import base64
import io
import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from fuzz_mutations import png_chunks, png_of
from PIL import Image
from run_folder import train_line, val_line, write_run, write_sheet
from safetensors.numpy import save_file

from ldmseg.errors import InputError
from ldmseg.runs.curves import Panel
from ldmseg.runs.history import Network, Series, Start, record_start
from ldmseg.runs.report import read_run, write_report
from ldmseg.runs.report.chart import chart, nice_ticks, number_text, tick_texts
from ldmseg.runs.report.page import MOST_SHEETS, duration_text

VOID_TAGS = {"meta", "img", "input", "br", "path"}


class Page(HTMLParser):
    """Checks that tags are balanced; keeps attributes, and the text without script and style."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.source = file.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))

    def values(self, tag: str, name: str) -> list[str]:
        return [value for t, n, value in self.attributes if (t, n) == (tag, name)]


def report(run: Path, now: datetime | None = None) -> tuple[Page, tuple[str, ...]]:
    file = run.parent / "page.html"
    notes = write_report(read_run(run), file, now)
    return Page(file), notes


def finished(tmp_path: Path) -> Path:
    lines = [*(train_line(step, step / 2, ce=0.5) for step in (20, 40)), val_line(40, 0.4321)]
    lines += [*(train_line(step, step / 2, ce=0.4) for step in (60, 80, 100)), val_line(80, 0.56), val_line(100, 0.5)]
    return write_run(tmp_path / "my run", "autoencoder", lines, sheets=(40, 80, 100), exported=True)


def test_a_finished_run(tmp_path: Path) -> None:
    page, notes = report(finished(tmp_path))
    assert notes == ()
    assert "my run" in page.text and "Stage 1" in page.text and "finished" in page.text
    assert "Best PQ 56.0% at step 80, last 50.0" in page.text
    assert re.search(r"Step PQ SQ RQ 100 50\.00 80\.00 62\.50 80 · best PQ 56\.00 80\.00 70\.00 40 43\.21", page.text)
    assert "Training time 50 s" in page.text and "Steps 100 of 100" in page.text
    assert page.source.count('<figure class="chart">') == 6  # loss, validation, cross-entropy, learning rate, gradient norm, speed


def test_nothing_is_loaded_from_anywhere(tmp_path: Path) -> None:
    page, _ = report(finished(tmp_path))
    assert re.findall(r"https?://|@import|url\(", page.source) == []
    assert [value for _, name, value in page.attributes if name in ("src", "href", "srcset") and not value.startswith("data:")] == []
    assert "default-src 'none'" in page.source


def test_samples_are_in_the_page_the_newest_first(tmp_path: Path) -> None:
    run = finished(tmp_path)
    page, _ = report(run)
    sources = page.values("img", "src")
    assert len(sources) == 3
    with (
        Image.open(io.BytesIO(base64.b64decode(sources[0].partition(",")[2]))) as shown,
        Image.open(run / "samples/step-0000100.png") as own,
    ):
        assert np.array_equal(np.asarray(shown.convert("RGB")), np.asarray(own))  # a flat picture is kept exactly
    assert page.text.index("Step 100") < page.text.index("Step 80") < page.text.index("Step 40")


def test_of_many_samples_some_are_shown(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "autoencoder", [train_line(100, 1.0)], sheets=tuple(range(1, 41)))
    page, _ = report(run)
    assert len(page.values("img", "src")) == MOST_SHEETS
    assert f"{MOST_SHEETS} of 40 sheets" in page.text and "Step 40 " in page.text and "Step 1 " in page.text


def test_a_sheet_and_counts_of_a_strange_size_are_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "diffusion", [train_line(20, 1.0), train_line(40, 2.0)], sheets=(20,))
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["optim"]["batch_size"] = 10**400
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    (run / "division.json").write_text("[" * 100_000)
    sheet = run / "samples" / "step-0000020.png"
    header, *rest = png_chunks(sheet.read_bytes())
    sheet.write_bytes(png_of([(b"IHDR", (200_000).to_bytes(4, "big") * 2 + header[1][8:]), *rest]))
    record = read_run(run)
    assert record.samples_per_step is None
    assert write_report(record, tmp_path / "report.html") == ("samples/step-0000020.png cannot be read and is left out",)


def test_damage_is_told_and_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "autoencoder", [train_line(20, 1.0), "{oops\n", train_line(40, 2.0)], sheets=(20, 40))
    file = run / "samples" / "step-0000020.png"
    file.write_bytes(file.read_bytes()[:60])
    page, notes = report(run)
    assert notes == ("1 damaged line of metrics.jsonl left out (line 2)", "samples/step-0000020.png cannot be read and is left out")
    assert all(note in page.text for note in notes)
    assert len(page.values("img", "src")) == 1


def test_a_run_in_progress(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "diffusion", [train_line(20, 60.0), train_line(40, 120.0)])
    written = (run / "metrics.jsonl").stat().st_mtime
    page, _ = report(run, datetime.fromtimestamp(written + 90, UTC))
    assert "Stage 2" in page.text and "in progress last figure 1 min 30 s before" in page.text
    assert "40 of 100, 40.0%" in page.text and "about 3 min to go" in page.text and "No validation yet" in page.text
    assert "Best PQ" not in page.text
    page, _ = report(run, datetime.fromtimestamp(written + 86400, UTC))
    assert "not finished last figure 1 d before" in page.text


def test_a_run_that_logged_nothing_yet(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "diffusion", [])
    (run / "metrics.jsonl").unlink()
    page, notes = report(run)
    assert "nothing logged yet" in page.text and "No figure is logged yet" in page.text and notes == ()


def test_the_configuration_shows_what_differs(tmp_path: Path) -> None:
    run = finished(tmp_path)
    settings = {(s.group, s.key): s for s in read_run(run).settings}
    assert {key for key, s in settings.items() if s.changed} == {
        ("data", "train"),
        ("optim", "steps"),
        ("optim", "lr"),
        ("optim", "batch_size"),
    }
    assert (settings["optim", "lr"].value, settings["optim", "lr"].default) == ("0.002", "0.0001")
    page, _ = report(run)
    assert "lr 0.002 default 0.0001" in page.text and "only the 4 keys that differ" in page.text
    assert len([value for value in page.values("div", "class") if value == "set changed"]) == 4
    values = yaml.safe_load((run / "config.yaml").read_text()) | {"from_the_future": 1}
    (run / "config.yaml").write_text(yaml.safe_dump(values))
    assert "from_the_future 1 unknown to this version" in report(run)[0].text


def test_names_are_text_and_no_html(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    run = write_run(tmp_path / "<b>run", "autoencoder", [train_line(20, 1.0, **{evil: 1.0}), val_line(20, 0.5) | {f"val_{evil}": 0.1}])
    values = yaml.safe_load((run / "config.yaml").read_text())
    values["data"]["train"] = values["data"]["val"] = evil
    (run / "config.yaml").write_text(yaml.safe_dump(values))
    record_start(run, Start(0, machine=evil, time=evil, networks=(Network(evil, 1, 1),)))
    page, _ = report(run)
    assert page.source.count("<script>") == 1 and "<b>run" not in page.source and evil in page.text


def test_where_it_was_trained(tmp_path: Path) -> None:
    lines = [train_line(40, 10.0), train_line(100, 10.0)]
    run = write_run(tmp_path / "run", "autoencoder", lines, exported=True)
    record_start(
        run, Start(0, processes=1, samples_per_step=8, device="cpu", machine="a machine", networks=(Network("model", 2_500_000, 500_000),))
    )
    record_start(run, Start(40, processes=2, samples_per_step=8, device="a fast one", networks=(Network("model", 2_500_000, 500_000),)))
    record = read_run(run)
    assert record.samples_per_second == pytest.approx(8 * 100 / 20) and record.resumptions == 1
    page, _ = report(run)
    assert "began at step 0, to 40" in page.text and "resumed at step 40, to 100" in page.text
    assert "1 process, cpu, a machine" in page.text and "2 processes, a fast one" in page.text
    assert "2.50 M 500,000 of them trained" in page.text.replace("0.50 M", "500,000") and "Training time 20 s 1 resumption" in page.text


def test_facts_of_a_run_that_nobody_wrote_down(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "diffusion", [train_line(20, 10.0)])
    assert read_run(run).samples_per_second is None and read_run(run).networks == ()
    checkpoint = run / "checkpoints" / "step-0000020"
    checkpoint.mkdir(parents=True)
    for rank in range(2):
        (checkpoint / f"random_states_{rank}.pkl").touch()
    save_file(
        {"denoiser.a": np.zeros((3, 4)), "denoiser.b": np.zeros(5), "image_encoder.c": np.zeros((2, 2))}, checkpoint / "model.safetensors"
    )
    record = read_run(run)
    assert record.networks == (Network("denoiser", 17), Network("image_encoder", 4))
    assert record.samples_per_step == 8 and record.samples_per_second == pytest.approx(16.0)  # batches of 4 on 2 processes
    (run / "division.json").write_text(json.dumps({"processes": 3}))
    assert read_run(run).samples_per_step == 12
    (checkpoint / "model.safetensors").write_bytes(b"half")
    assert read_run(run).networks == ()


def test_what_is_no_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for name, text in (("foreign", "epochs: 3"), ("list", "[1]"), ("broken", "a: ["), ("staged", "stage: [1]")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(text)
    reasons = {"file": "a file", "nowhere": "not there", "empty": "no config.yaml", "broken": "no YAML"}
    for name in ("file", "nowhere", "empty", "foreign", "list", "broken", "staged"):
        with pytest.raises(InputError, match=f"RUN: expected a run folder .*{reasons.get(name, 'names no stage')}") as caught:
            read_run(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_the_page_replaces_an_older_one_or_says_why_not(tmp_path: Path) -> None:
    run = finished(tmp_path)
    record = read_run(run)
    write_sheet(run / "samples" / "notes.png", 1)  # not one of ours
    write_sheet(run / "samples" / "step-last.png", 1)
    assert read_run(run).sheets == record.sheets
    (tmp_path / "page.html").mkdir()
    with pytest.raises(InputError, match=r"cannot write .*page\.html"):
        write_report(record, tmp_path / "page.html")


# ------------------------------------------------------------------------------------------------------------------------ diagrams
def test_a_diagram_has_every_number_in_it(tmp_path: Path) -> None:
    series = Series("loss", (10, 20, 40), (3.0, 1.0, 2.0))
    html = chart(Panel("Loss", (series,)), 40, mark=20)
    line = re.search(r'<path class="line s1" d="M250 ([\d.]+)L500 ([\d.]+)L1000 ([\d.]+)"', html)
    assert line is not None
    high, low, middle = (float(y) for y in line.groups())
    assert 0 < high < middle < low < 1000 and middle == pytest.approx((high + low) / 2, abs=0.2)
    assert '<path class="mark" d="M500 0L500 1000"' in html and "Loss: loss from 3 at step 10 to 2 at step 40" in html
    assert "&quot;steps&quot;:[10,20,40],&quot;texts&quot;:[&quot;3&quot;,&quot;1&quot;,&quot;2&quot;]" in html


def test_a_long_series_is_thinned_without_losing_a_spike() -> None:
    values = [1.0] * 20_000
    values[12_345] = 9.0
    html = chart(Panel("Loss", (Series("loss", tuple(range(20_000)), tuple(values)),)), 20_000)
    assert len(html) < 60_000 and "12345" in html and "19999" in html


@pytest.mark.parametrize(
    ("values", "log"),
    [
        *(((value,), False) for value in (5.0, 0.0, -2e-9)),
        *((pair, False) for pair in ((0.0, 0.0), (-2.0, 3.0), (8.333333333, 8.3333333331), (1e-12, 2e-12), (1e9, 3e12), (1e-4, 1e-4))),
        *((pair, True) for pair in ((0.01, 0.6), (0.9, 90.0), (1e9, 3e12), (1e-12, 5e3))),
    ],
)
def test_any_range_has_readable_ticks(values: tuple[float, ...], log: bool) -> None:
    html = chart(Panel("x", (Series("x", tuple(range(len(values))), values),), log=log), len(values) - 1)
    ticks = re.findall(r'<span class="y"[^>]*>([^<]*)</span>', html)
    assert ticks and len(set(ticks)) == len(ticks) and all(len(tick) <= 9 for tick in ticks)


def test_ticks_and_numbers() -> None:
    assert nice_ticks(0, 10, 5) == [0, 2, 4, 6, 8, 10]
    assert tick_texts(nice_ticks(0.13, 0.42, 5)) == ["0.15", "0.20", "0.25", "0.30", "0.35", "0.40"]
    assert tick_texts(nice_ticks(0, 4e-4, 4)) == ["0", "1e-4", "2e-4", "3e-4", "4e-4"]
    assert tick_texts([9e-5, 9.5e-5, 1e-4]) == ["9.00e-5", "9.50e-5", "1.00e-4"]
    assert tick_texts([0.01, 0.1, 1, 10], log=True) == ["0.01", "0.1", "1", "10"]
    assert [number_text(v) for v in (0.052014, 0.5, 12540.4, 1.9042e-9, -3, 0)] == ["0.05201", "0.5", "12,540", "1.904e-09", "-3", "0"]
    assert [duration_text(s) for s in (0, 42.4, 654, 3600, 11520, 190_000)] == [
        "0 s",
        "42 s",
        "10 min 54 s",
        "1 h",
        "3 h 12 min",
        "2 d 4 h",
    ]

"""The whole check of a data set. A broken file does not end the check of the others."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from ldmseg.data.check.coco import CocoCheck
from ldmseg.data.check.findings import CheckReport, Finding
from ldmseg.data.check.folders import Look, cityscapes_looks, item_looks, label_looks, tool_looks
from ldmseg.data.datasets import load_dataset, parse_spec
from ldmseg.data.datasets.loading import locate
from ldmseg.errors import InputError
from ldmseg.formats.cityscapes import CityscapesFiles
from ldmseg.formats.label_folder import LabelFolder
from ldmseg.formats.tools.base import ToolFiles

WAITING = 64
"""Images that are decoded ahead of the last reported one; enough to keep every worker busy."""


def check_dataset(
    spec: str,
    *,
    workers: int = 1,
    ignore: Sequence[str] = (),
    on_finding: Callable[[Finding], None] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Open every file of a data set and compare it with the annotations.

    Args:
        spec: `FORMAT:ROOT[:SPLIT]`.
        workers: threads; decoding pictures, which takes the time, is done by all of them at once.
        ignore: kinds of findings to leave out.
        on_finding: called with each finding as soon as all before it are known; their order does not depend on `workers`.
        on_progress: called with (images checked, images in all).

    Raises:
        InputError: there is no such data set, or `workers` is less than 1. What is wrong inside of it is a finding.
    """
    if workers < 1:
        raise InputError(f"workers: expected at least 1, got {workers}")
    findings, looks = _plan(spec)
    told: list[Finding] = []

    def tell(found: Sequence[Finding]) -> None:
        for finding in found:
            if finding.kind not in ignore:
                told.append(finding)
                if on_finding is not None:
                    on_finding(finding)

    tell(findings)
    for done, found in enumerate(_in_order(looks, workers), start=1):
        tell(found)
        if on_progress is not None:
            on_progress(done, len(looks))
    return CheckReport(len(looks), tuple(told))


def _plan(spec: str) -> tuple[list[Finding], list[Look]]:
    """What is known before a picture is opened, and one look per image."""
    parsed = parse_spec(spec)
    if parsed.kind == "scenes" or parsed.items is not None:  # of a part, only its own files
        return [], item_looks(load_dataset(spec))
    files = locate(parsed)
    if isinstance(files, LabelFolder):
        return label_looks(files)
    if isinstance(files, ToolFiles):
        return [], tool_looks(files)
    if isinstance(files, CityscapesFiles):
        return [], cityscapes_looks(files)
    check = CocoCheck(files, everybody=parsed.kind == "bsds500").read()
    return check.findings, check.looks


def _in_order(looks: Sequence[Look], workers: int) -> Iterator[list[Finding]]:
    pool = ThreadPoolExecutor(workers)
    waiting: deque[Future[list[Finding]]] = deque()
    try:
        for look in looks:
            waiting.append(pool.submit(look))
            if len(waiting) > WAITING:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)

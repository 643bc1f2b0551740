"""`ldmseg report`: a run folder as one HTML page that needs nothing but itself."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from ldmseg.atomic import write_text
from ldmseg.runs.report.page import render
from ldmseg.runs.report.record import RunRecord, read_run

__all__ = ["RunRecord", "read_run", "write_report"]


def write_report(record: RunRecord, path: Path, now: datetime | None = None) -> tuple[str, ...]:
    """Write the page of a run, atomically.

    Args:
        now: the time of the page, in UTC.

    Returns:
        Notes on what in the run folder could not be read and is left out.

    Raises:
        InputError: the file cannot be written.
    """
    page, notes = render(record, now or datetime.now(UTC))
    write_text(path, page)
    return notes

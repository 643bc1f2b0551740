"""`label_archive` with a segmenter that costs nothing, as a program that can be killed: python label_cheaply.py '{"sources": [..], ..}'."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from cheap import cheap

from ldmseg.errors import InputError
from ldmseg.labelling.archive.run import Request, label_archive
from ldmseg.labelling.archive.speed import Division


def main(asked: dict[str, Any]) -> int:
    make = cheap(**{name: Path(value) if name == "log" else value for name, value in asked.pop("segmenter", {}).items()})
    ray = asked.pop("ray", False)
    request = Request(tuple(asked.pop("sources")), Path(asked.pop("output")), **asked)

    def cluster(division: Division) -> Any:
        from ldmseg.labelling.archive.cluster import RayEngine

        return RayEngine(make, division.workers, division.threads)

    try:
        report = label_archive(request, [make], make_engine=cluster if ray else None)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps({"photos": report.photos, "failed": report.failed, "before": report.shards_before}))
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))

"""Other people's programs as judges, in environments of their own, because their dependencies and ours do not fit together.

`make oracles` makes the environments and runs the tests that ask them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from typing import Any

import pytest

PYTHONS = "LDMSEG_ORACLE_PYTHONS"
"""Environment variable: interpreters that have such packages, separated as in PATH."""


@cache
def _interpreter(package: str) -> str | None:
    for python in [*filter(None, os.environ.get(PYTHONS, "").split(os.pathsep)), sys.executable]:
        try:
            if subprocess.run([python, "-c", f"import {package}"], capture_output=True, check=False).returncode == 0:
                return python
        except OSError:
            continue
    return None


def interpreter(package: str) -> str:
    """An interpreter that has the package; the test is skipped where there is none."""
    python = _interpreter(package)
    if python is None:
        pytest.skip(f"no Python with the package {package} ({PYTHONS} names interpreters)")
    return python


def ask(package: str, code: str, given: Any = None) -> Any:
    """Run `code`, in which `given` is what was given, with an interpreter that has `package`; what it assigns to `answer` comes back."""
    program = f"import json, sys\ngiven = json.load(sys.stdin)\n{code}\nprint('ANSWER' + json.dumps(answer))"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [interpreter(package), "-c", program], input=json.dumps(given), capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.rpartition("ANSWER")[2])

"""`ldmseg` as launchers start it in tests: it logs every step, and processors count as devices where weights are shared out.

Accelerate offers FSDP and DeepSpeed for GPUs and their like only; both work on processors, and so can be tried without a GPU.
"""

from __future__ import annotations

import os
import sys

from accelerate.state import PartialState
from accelerate.utils import DistributedType

from ldmseg.cli import main
from ldmseg.training import distributed, loop

if __name__ == "__main__":
    loop.LOG_EVERY = 1
    if "true" in (os.environ.get("ACCELERATE_USE_FSDP"), os.environ.get("ACCELERATE_USE_DEEPSPEED")):
        os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
        PartialState._prepare_backend = lambda *args, **kwargs: ("gloo", DistributedType.MULTI_GPU)
        distributed._connected_accelerator = lambda: True
    sys.exit(main())

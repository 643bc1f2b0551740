"""Several processes as one run: how they connect, wait for each other, and notice that one of them has ended."""

from __future__ import annotations

import itertools
import os
import time
from datetime import timedelta

import torch
from accelerate import PartialState

from ldmseg.errors import InputError
from ldmseg.training.environment import launched, local_rank, on_processor

# If a collective operation takes longer, a process has ended. Work of the main process alone (validation) may take any time: see
# `wait_for_main`.
GIVE_UP = timedelta(minutes=10)
_POLL = 0.1  # seconds
_TOLD = "ldmseg/told"
_ROUNDS = itertools.count()


def join() -> PartialState:
    """Connect this process with the others of its launch; `Accelerator` then uses the connection. Alone, only find the device.

    Several processes on a machine without an accelerator use its processor (gloo) by default.

    Raises:
        InputError: the launcher started several processes, but nothing connects them, or not all of them came.
    """
    alone = launched() == 1
    processor = on_processor() or (not alone and not _connected_accelerator())
    try:
        state = PartialState(cpu=processor, **({} if alone else {"timeout": GIVE_UP}))
    except RuntimeError as error:  # torch's, of no particular type
        if alone:
            raise
        where = f"{os.environ.get('MASTER_ADDR', 'localhost')}:{os.environ.get('MASTER_PORT', '29500')}"
        raise InputError(f"launch: cannot connect {launched()} processes at {where}: {' '.join(str(error).split())[:200]}") from error
    if state.num_processes != launched():
        raise InputError(
            f"launch: expected {launched()} connected processes, got {state.num_processes}; start them with 'accelerate launch' or torchrun"
        )
    return state


def wait_for_main() -> None:
    """Every process waits here for the main process, without a time limit.

    Collective operations cannot wait for work that one process does alone, because they fail after `GIVE_UP`.
    """
    number = next(_ROUNDS)
    if torch.distributed.is_initialized():
        key = f"ldmseg/main/{number}"
        if PartialState().is_main_process:
            _store().set(key, "here")
        while not _store().check([key]):
            time.sleep(_POLL)
    PartialState().wait_for_everyone()


def first_to_tell() -> bool:
    """Whether this process prints the run's error: the first that calls this or, unconnected, the first of each machine."""
    if not torch.distributed.is_initialized():
        return local_rank() == 0
    try:
        return _store().add(_TOLD, 1) == 1
    except RuntimeError:  # the process with the store has ended; an error printed twice is better than none
        return True


def is_lost(error: BaseException) -> bool:
    """Whether an error means only that another process did not answer. Gloo's errors have no type of their own."""
    return isinstance(error, torch.distributed.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def _connected_accelerator() -> bool:
    """A device over which processes can exchange tensors; Apple's GPUs cannot."""
    return torch.accelerator.is_available() and not torch.backends.mps.is_available()


def _store() -> torch.distributed.Store:
    return torch.distributed.distributed_c10d._get_default_store()  # the one all processes of the launch share; torch has no public name

"""The cluster's engine: Ray's actors run the same function on the same shards, so the same files come out."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from typing import Any

from ldmseg.errors import InputError, quoted, shortened
from ldmseg.labelling.archive.failure import Stopped, stopped
from ldmseg.labelling.archive.job import ShardDone
from ldmseg.labelling.archive.plan import Shard
from ldmseg.labelling.archive.progress import Progress
from ldmseg.labelling.archive.work import Work
from ldmseg.labelling.archive.worker import THREADS, MakeSegmenter, labeller_of

logger = logging.getLogger(__name__)


class ShardActor:
    """What Ray keeps running: a segmenter, and the function that labels shards with it."""

    def __init__(self, make: MakeSegmenter, work: Work, finishers: int = 0) -> None:
        self._work = work
        self._stop: Stopped | None = None
        try:
            self._labeller = labeller_of(make, finishers)
        except BaseException as error:
            self._stop = stopped(error)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """One row with a shard's number, size and place in the plan -> one row with what became of it.

        A reason to stop comes back as a row, because Ray would try again what raises an error.
        """
        from ldmseg.labelling.archive.shard import label_shard

        shard = Shard(*(int(batch[name][0]) for name in ("number", "count", "offset")))
        done, stop = ShardDone(shard.number, shard.count, 0), self._stop
        if stop is None:
            try:
                done = label_shard(self._work, shard, self._labeller, lambda photos, failures: None)
            except BrokenExecutor:
                os._exit(1)  # a process that finished maps was killed: as if this one had been
            except BaseException as error:
                stop = stopped(error)
        row: dict[str, Any] = {"shard": done.shard, "photos": done.photos, "failed": done.failed}
        row |= {"stop": "" if stop is None else stop.message, "crash": "" if stop is None else stop.crash or ""}
        return {name: [value] for name, value in row.items()}


class RayEngine:
    """Labels shards with `workers` actors of a Ray cluster, through `ray.data`.

    All machines need the photos and the folder for the results under the same paths, and ldmseg itself.

    Args:
        make: what makes an actor its segmenter.
        workers: actors; None has as many as the cluster has room for.
        threads: of each, which are as many of Ray's CPUs.
        gpus: of each actor.
        finishers: further processes of each that put borders beside a GPU, each one of Ray's CPUs.
        address: of the cluster (`auto`, `ray://host:10001`); None starts Ray on this machine.

    Raises:
        InputError: Ray is not installed.
    """

    def __init__(
        self, make: MakeSegmenter, workers: int | None, threads: int, *, gpus: int = 0, finishers: int = 0, address: str | None = None
    ) -> None:
        check_ray()
        self._make, self._workers, self._address = make, workers, address
        self._threads, self._gpus, self._finishers = threads, gpus, finishers

    def run(self, work: Work, shards: Sequence[Shard], progress: Progress, on_done: Callable[[ShardDone], None]) -> None:
        """As `LocalEngine.run`. An actor that dies is replaced, and its shard begins anew.

        Raises:
            InputError: the cluster cannot be reached, or an actor told why the run cannot go on.
            TooManyFailures: as `progress` says.
        """
        import ray

        mine = self._connect(ray)
        try:
            for row in self._rows(ray, work, shards):
                if row["crash"]:
                    raise RuntimeError(f"an actor of the run ended: {row['crash']}")
                if row["stop"]:
                    raise InputError(row["stop"])
                done = ShardDone(int(row["shard"]), int(row["photos"]), int(row["failed"]))
                on_done(done)
                progress.done(done)
        finally:
            if mine:
                ray.shutdown()

    def _connect(self, ray: Any) -> bool:
        """Connect to the cluster, or start one here; whether this run has to end it."""
        if ray.is_initialized():
            return False
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        environment = {"env_vars": {name: str(self._threads) for name in THREADS}}
        own = {} if self._address else {"num_cpus": (self._workers or 1) * self._cpus + 1, "include_dashboard": False}
        try:
            ray.init(address=self._address, log_to_driver=False, logging_level=logging.ERROR, runtime_env=environment, **own)
        except Exception as error:
            named = "a cluster on this machine" if self._address is None else quoted(self._address)
            raise InputError(f"--address: cannot connect to {named}: {shortened(error, 200)}") from error
        return True

    @property
    def _cpus(self) -> int:
        return self._threads + self._finishers

    def _room(self, ray: Any) -> int:
        """How many actors the cluster has room for; one CPU stays free for Ray's own tasks."""
        has = ray.cluster_resources()
        actors = int(max(1, has.get("CPU", 1) - 1) // self._cpus)
        return max(1, min(actors, int(has.get("GPU", 0) // self._gpus)) if self._gpus else actors)

    def _rows(self, ray: Any, work: Work, shards: Sequence[Shard]) -> Any:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars, context.print_on_execution_start = False, False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        items = [{"number": one.number, "count": one.count, "offset": one.offset} for one in shards]
        return (
            ray.data.from_items(items, override_num_blocks=len(items))
            .map_batches(
                ShardActor,
                batch_size=1,
                compute=ray.data.ActorPoolStrategy(size=min(self._workers or self._room(ray), len(items))),
                num_cpus=self._cpus,
                num_gpus=self._gpus or None,
                fn_constructor_args=(self._make, work, self._finishers),
            )
            .iter_rows()
        )


def check_ray() -> None:
    """
    Raises:
        InputError: Ray is not installed.
    """
    try:
        import ray.data  # noqa: F401
    except ImportError as error:
        raise InputError("--engine: ray needs Ray: pip install 'ldmseg[ray]'") from error

"""Work for many processes: on this machine by default, on an existing dask cluster by its address."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

import dask
import numba
import torch
from distributed import Client, LocalCluster, as_completed

from cell.commands.console import progress
from cell.interfaces import CellError, ConfigError
from detection.errors import DetectionError

_CONNECT_S = "20s"
_DEATHS = 3  # of a worker with the same job, before the job is held to be the cause


class Job(Protocol):
    """A piece of work that leaves one file or folder behind; it travels to a worker by pickling."""

    @property
    def out(self) -> Path:
        """What is there, whole, once the job is done."""
        ...

    def run(self) -> None:
        """Do it; on a worker. What it writes depends on the job alone."""
        ...


JobT = TypeVar("JobT", bound=Job)


@contextmanager
def workers(scheduler: str | None) -> Iterator[Client]:
    """Open a cluster.

    Parameters
    ----------
    scheduler : str, optional
        Address of a running dask scheduler, such as ``tcp://10.0.0.7:8786``. Its workers need this package and must see
        the study's folder under the same path. Without it, processes on this machine, as many as it has cores,
        reachable from this machine alone.

    Yields
    ------
    Client
        Of `distributed`.

    Raises
    ------
    ConfigError
        The scheduler does not answer.
    """
    # It warns of each worker that takes more than four seconds to leave, which torch does.
    logging.getLogger("distributed.nanny").setLevel(logging.ERROR)
    settings = {"distributed.scheduler.allowed-failures": _DEATHS, "distributed.worker.daemon": False}
    with dask.config.set(settings):
        if scheduler is None:
            cores = os.cpu_count() or 1
            with (
                LocalCluster(
                    n_workers=cores, threads_per_worker=1, memory_limit=0, dashboard_address="127.0.0.1:0"
                ) as cluster,
                Client(cluster) as client,
            ):
                yield client
            return
        try:
            client = Client(scheduler, timeout=_CONNECT_S)
        except (OSError, TimeoutError, ValueError) as error:
            raise ConfigError(
                f"{scheduler}: no dask scheduler answers ({error}); start one with `dask scheduler`, or leave "
                "--scheduler out to work on this machine alone"
            ) from error
        with client:
            yield client


def run_jobs(client: Client, jobs: Sequence[JobT], *, doing: str) -> None:
    """Do the jobs that are not done yet, whatever order suits; what they leave is in their `out`.

    Parameters
    ----------
    client : Client
        See `workers`.
    jobs : sequence of Job
        A job whose `out` exists is done. One whose worker dies goes to another worker.
    doing : str
        What to show beside the bar.

    Raises
    ------
    CellError
        Whatever a job raised, or after three workers died over it.
    """
    missing = [job for job in jobs if not job.out.exists()]
    with progress(doing, len(jobs)) as bar:
        done = len(jobs) - len(missing)
        bar(done)
        futures = client.map(_run, missing, pure=False)
        try:
            for future in as_completed(futures):
                error = future.exception()
                if isinstance(error, (CellError, DetectionError, OSError)):
                    raise error
                if error is not None:
                    raise CellError(
                        f"{doing}: a worker failed ({type(error).__name__}: {error}); what is done is kept, so "
                        "start the study again"
                    ) from error
                done += 1
                bar(done)
        finally:
            for future in futures:
                future.release()


def _run(job: Job) -> None:
    # The network adds in another order with other threads: with one, a result does not depend on the machine's cores.
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    if not job.out.exists():
        job.run()

"""Several slides at a time, on the workers of a Dask cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future

from distributed import Client, KilledWorker

from napari_leukocls.batch.job import Job, SlideDone, failure
from napari_leukocls.batch.pool import DIED, ready_of
from napari_leukocls.batch.worker import do_job
from napari_leukocls.errors import ArgumentError, DeviceError
from napari_leukocls.progress import CancelToken

#: Seconds that a scheduler has to answer.
_ANSWER = 15


def on_cluster(jobs: Sequence[Job], address: str, cancel: CancelToken) -> Iterator[SlideDone]:
    """Analyse slides on a Dask cluster; if a worker ends unexpectedly, another one takes over its slides.

    Parameters
    ----------
    jobs : sequence of Job
        Inputs and the output folder are paths that all workers can read.
    address : str
        Of the Dask scheduler.
    cancel : CancelToken

    Yields
    ------
    SlideDone
        In the order in which they are finished.

    Raises
    ------
    ArgumentError
        If no scheduler answers.
    DeviceError
        If the scheduler is lost, or a worker lacks a package.
    LeukoclsError
        As `napari_leukocls.batch.worker.do_job`.
    """
    with _connected(address) as client:
        pool = client.get_executor(pure=False)
        running: dict[Future[SlideDone], Job] = {pool.submit(do_job, job): job for job in jobs}
        try:
            while running:
                for future in ready_of(running, cancel):
                    job = running.pop(future)
                    try:
                        yield future.result()
                    except KilledWorker:
                        yield failure(job.slide.slide_id, DIED)
        except CancelledError as error:
            raise DeviceError(
                f"the Dask scheduler at '{address}' was lost: start it again and go on with --resume."
            ) from error
        except ImportError as error:
            raise DeviceError(
                f"a worker of '{address}' lacks what it needs ({error}): install the same version on all."
            ) from error
        finally:
            for future in running:
                future.cancel()


def _connected(address: str) -> Client:
    try:
        return Client(address, timeout=_ANSWER, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise ArgumentError(f"no Dask scheduler answers at '{address}'; start one, or correct it.") from error

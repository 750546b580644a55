"""Worker processes, on this machine or elsewhere. Dask finds and feeds them, and gives on what a lost one had.

A worker gets a function and its arguments by message and returns the result by message: it needs the same versions of
the library and of JAX, but no folder that others see. Those of this machine talk to each other over TLS, with keys that
are made for the run: on a loopback address other users of the machine could send them code otherwise.
"""

import contextlib
import importlib.metadata
import logging
import os
import pickle
import queue
import signal
import sys
import threading
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sublim_theory.protocols import SublimError

if TYPE_CHECKING:
    from distributed import Client, Future

ANSWER = 30.0
"""Seconds in which a scheduler must answer."""
_CORES = "SUBLIM_THEORY_CORES"


class WorkerError(SublimError, RuntimeError):
    """Workers cannot be had, were lost, or are not like this process; the message says which and the way out."""


class Workers:
    """Workers, as a context. They start, or are connected to, when the first work comes.

    Args:
        count: of processes on this machine, each with cores, or with a GPU, of its own.
        scheduler: HOST:PORT of a Dask scheduler that others run, in place of `count`.
    """

    def __init__(self, *, count: int | None = None, scheduler: str | None = None):
        self._count, self._scheduler = count, scheduler
        self._stack = contextlib.ExitStack()
        self._client: Client | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        client, self._client = self._client, None  # from here on a worker that goes is none that was lost
        if client is not None:
            client.close(timeout=1)
        self._stack.close()

    def compute(
        self, function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], names: Sequence[str]
    ) -> Iterator[tuple[int, Any, str]]:
        """Call a function with the arguments of every task; what a lost worker had is called again elsewhere.

        Args:
            function: of a module that the workers can import.
            tasks: arguments of each call; they are pickled.
            names: what messages call each task.

        Yields:
            As they come: number of the task, result, address of the worker.

        Raises:
            WorkerError: if a task ended every worker that took it, the scheduler is lost or never answers, or a worker
                has other versions.
            Exception: what the function raises, as it is.
        """
        if not tasks:
            return
        client = self._client = self._client or self._start()
        if not self._threads():
            _say(f"there is no worker at {self._scheduler} yet; start some with `dask worker {self._scheduler}`")
        finished: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        numbers = {}
        try:
            for number, task in enumerate(tasks):
                words = (_versions(), pickle.dumps((function, task)))
                future = client.submit(_call, *words, key=f"{names[number]}-{uuid.uuid4().hex}", pure=False)
                future.add_done_callback(finished.put)
                numbers[future] = number
            while numbers:
                future = self._patiently(lambda: finished.get(timeout=ANSWER))
                number = numbers.pop(future)
                yield number, *self._result(future, names[number])
        finally:
            if numbers and client.status == "running":
                client.cancel(list(numbers))

    def _result(self, future: "Future[Any]", name: str) -> Any:
        from distributed import KilledWorker

        try:
            if future.status != "finished":
                return future.result()  # which raises
            return self._patiently(lambda: future.result(timeout=ANSWER))
        except KilledWorker as error:
            raise WorkerError(
                f"{name} ended each of the {error.allowed_failures + 1} workers that took them; "
                "look for too little memory: fewer workers or a smaller --chunk-size need less"
            ) from error
        except Exception as error:
            if future.cancelled():
                raise self._lost() from error
            if isinstance(error, ImportError) or "deserialization" in str(error):
                raise WorkerError(
                    f"the scheduler or a worker lacks what this run needs ({error.__cause__ or error}); "
                    "install the same version of this repository there"
                ) from error
            raise
        finally:
            future.release()

    def _patiently(self, get: Callable[[], Any]) -> Any:
        """What `get` gives at last, for as long as the scheduler answers whenever it gave nothing in time."""
        while True:
            try:
                return get()
            except (queue.Empty, TimeoutError):
                self._threads()

    def _threads(self) -> dict[str, int]:
        """Address of each worker -> its threads."""
        assert self._client is not None
        try:
            return self._client.nthreads(callback_timeout=ANSWER)
        except Exception as error:
            raise self._lost() from error

    def _lost(self) -> WorkerError:
        where = f"the scheduler at {self._scheduler}" if self._scheduler else "the scheduler of the workers"
        return WorkerError(f"{where} was lost; finished seeds are kept, the same command goes on from there")

    def _notice(self, event: tuple[float, Any]) -> None:
        told = event[1]
        if self._client is not None and told.get("action") == "remove-worker" and not told.get("expected"):
            _say(f"worker {told['worker']} was lost; its seeds go to another")

    def _start(self) -> "Client":
        import dask
        import distributed

        self._stack.enter_context(_without_logs())
        # What Dask sets for its workers makes malloc return memory at once, which costs XLA a third of its time.
        settings = {"distributed.worker.profile.enabled": False, "distributed.nanny.pre-spawn-environ": {}}
        self._stack.enter_context(dask.config.set(settings))
        where = self._scheduler or self._local()
        found: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def connect() -> None:
            try:
                found.put(distributed.Client(where, timeout=ANSWER, set_as_default=False))
            except (OSError, ValueError) as error:
                found.put(error)

        # Dask waits for ever for one that takes the connection and says nothing.
        threading.Thread(target=connect, daemon=True).start()
        try:
            client = found.get(timeout=ANSWER + 1)
        except queue.Empty as error:
            client = error
        if isinstance(client, Exception):
            reason = str(client) or "something takes the connection and is silent"
            raise WorkerError(
                f"no Dask scheduler answers at {self._scheduler} within {ANSWER:.0f} s ({reason}); start one there "
                "with `dask scheduler`, and see that no firewall is in between"
            ) from client
        client.subscribe_topic("all", self._notice)
        return client

    def _local(self) -> Any:
        from distributed import Nanny, Scheduler, Security, SpecCluster

        security = Security.temporary()
        common = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "security": security, "protocol": "tls://"}
        options = {"nthreads": 1, "memory_limit": 0, "silence_logs": logging.CRITICAL, "preload": [__name__]}
        workers = {
            index: {"cls": Nanny, "options": {**common, **options, "env": own}}
            for index, own in enumerate(shares(self._count or 1))
        }
        scheduler = {"cls": Scheduler, "options": {**common, "port": 0, "dashboard": False}}
        cluster = SpecCluster(workers, scheduler, security=security, silence_logs=logging.CRITICAL)
        return self._stack.enter_context(cluster)


def shares(count: int) -> list[dict[str, str]]:
    """What each of so many workers of this machine has to itself, as variables of its environment.

    The cores that this process may use are divided; where there are fewer than workers, they are shared. With JAX for
    CUDA, worker i sees the i-th GPU.

    Raises:
        WorkerError: for more workers than GPUs.
    """
    found: list[dict[str, str]] = [{} for _ in range(count)]
    if hasattr(os, "sched_getaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if count > len(cores):
            _say(f"{count} workers share {len(cores)} core{'s' * (len(cores) > 1)}")
        for index, own in enumerate(found):
            bounds = [len(cores) * i // count for i in (index, index + 1)]
            own[_CORES] = ",".join(map(str, cores[slice(*bounds)] or [cores[index % len(cores)]]))
    if gpus := _gpus():
        if count > len(gpus):
            raise WorkerError(f"{count} workers need a GPU each and there are {len(gpus)}; give --workers {len(gpus)}")
        for own, gpu in zip(found, gpus, strict=False):
            own["CUDA_VISIBLE_DEVICES"] = gpu
    return found


def dask_setup(_worker: object) -> None:
    """Called by Dask in a new worker of this machine, before JAX is there: keeps the process to its cores."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of a terminal's processes; ours ends the workers
    if cores := os.environ.get(_CORES):
        os.sched_setaffinity(0, map(int, cores.split(",")))


def _call(versions: dict[str, str], work: bytes) -> tuple[Any, str]:
    """What a worker does; its address."""
    from distributed import get_worker

    address = get_worker().address
    if (here := _versions()) != versions:
        differ = ", ".join(
            f"{name} {here[name]} instead of {version}" for name, version in versions.items() if here[name] != version
        )
        raise WorkerError(
            f"worker {address} has {differ}; install the same there, such as with the same constraints.txt"
        )
    function, arguments = pickle.loads(work)
    return function(*arguments), address


def _versions() -> dict[str, str]:
    """Versions that numbers, and what is sent, depend on."""
    return {name: importlib.metadata.version(name) for name in ("sublim-theory", "jax", "jaxlib", "numpy")}


def _gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES may be for one GPU; none where JAX here is not for CUDA, or told to keep off it."""
    plugins = importlib.metadata.entry_points(group="jax_plugins")
    platforms = os.environ.get("JAX_PLATFORMS") or "cuda"
    if not any("cuda" in plugin.name for plugin in plugins) or not {"cuda", "gpu"} & set(platforms.split(",")):
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [each for each in visible.split(",") if each]
    return [str(index) for index, _ in enumerate(Path("/dev").glob("nvidia[0-9]*"))]


@contextlib.contextmanager
def _without_logs() -> Iterator[None]:
    """Keep Dask's log from standard error: what a user must know is said here, in one line each."""
    loggers = [
        logging.getLogger(name)
        for name in logging.root.manager.loggerDict
        if name.startswith(("distributed", "tornado", "asyncio"))
    ]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            # What Dask was waiting for when the run was interrupted.
            warnings.filterwarnings("ignore", r"coroutine .* was never awaited", RuntimeWarning)
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _say(message: str) -> None:
    print(f"sublim: {message}", file=sys.stderr, flush=True)

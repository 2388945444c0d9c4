"""Workers on a Ray cluster: each is an actor that builds what it needs once and then runs tasks."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from simenv import errors
from simenv.errors import InputError, SimenvError
from simenv.importing import reason
from simenv.runs.dispatch import WorkerLost

T = TypeVar("T")
R = TypeVar("R")
_STORE = 2**28
"""Bytes of the object store of a cluster of our own: results wait there, a few at a time."""
_PATIENCE = 30.0
"""Seconds without any worker before a warning says that the cluster gives none."""


_LONGEST = 300
"""Characters of an error of Ray's."""
_Task = TypeVar("_Task", contravariant=True)
_Result = TypeVar("_Result", covariant=True)


class Runner(Protocol[_Task, _Result]):
    """What a worker builds and then calls with each task, from as many threads as tasks run at once."""

    def run(self, task: _Task) -> _Result:
        """The task's result."""
        ...


class _Failed(NamedTuple):
    """An error of ours on its way from a worker: errors with arguments of their own do not survive pickling."""

    kind: str
    message: str
    hint: str | None

    def error(self, where: str) -> SimenvError:
        kind = getattr(errors, self.kind, SimenvError)
        error: SimenvError = kind.__new__(kind)
        SimenvError.__init__(error, f"{where}: {self.message}" if where else self.message, hint=self.hint)
        return error


class _Host:
    """The actor."""

    def __init__(self, folder: str, path: list[str]) -> None:
        if Path(folder).is_dir():  # names of files are relative to it
            os.chdir(folder)
        sys.path.extend(entry for entry in path if entry not in sys.path)
        self._runner: Any = None

    def build(self, pickled: bytes, workers: int) -> str | _Failed:
        """Builds the runner. Returns the name of this machine."""
        import socket

        from ray import cloudpickle

        try:
            try:
                make = cloudpickle.loads(pickled)
            except Exception as error:
                raise InputError(f"what it needs cannot be imported: {reason(error)}") from error
            self._runner = make(workers)
        except SimenvError as error:
            return _failed(error)
        return socket.gethostname()

    def run(self, task: Any) -> Any:
        try:
            return self._runner.run(task)
        except SimenvError as error:
            return _failed(error)


def _failed(error: SimenvError) -> _Failed:
    kinds = (kind.__name__ for kind in type(error).__mro__ if getattr(errors, kind.__name__, None) is kind)
    return _Failed(next(kinds), error.args[0] if error.args else "", error.hint)


class RayPool(Generic[T, R]):
    """The workers of a Ray cluster, for a `with` block: at its end they are gone, and so is a cluster of our own.

    Args:
        make: Builds a runner, in each worker once, from the number of workers. It is pickled.
        workers: Their number; by default one for each processor of the cluster, or for each GPU if they need one.
        address: HOST:PORT of a running cluster, or "auto"; by default one is started on this machine. If the process is
            connected to a cluster already, and no address is given, that one is used.
        at_once: Tasks that a worker runs at the same time.
        gpus: GPUs that each worker has for itself.
        warned: Called if the cluster has no room for any worker.

    Raises:
        InputError: Ray is not installed, the cluster cannot be reached, or `make` cannot be pickled.
    """

    def __init__(
        self,
        make: Callable[[int], Runner[T, R]],
        *,
        workers: int | None = None,
        address: str | None = None,
        at_once: int = 1,
        gpus: int = 0,
        warned: Callable[[str], None] = lambda text: None,
    ) -> None:
        require_ray()
        self.at_once = at_once
        self._gpus = gpus
        self._warned = warned
        self._actors: list[Any] = []
        self._started = False
        self._own = _connect(address, workers)
        try:
            self.size = workers or self._room()
            self._pickled = self._put(make)
            self._host: Any = (
                _ray()
                .remote(_Host)
                .options(num_cpus=1, num_gpus=gpus, max_concurrency=at_once, max_restarts=0, max_task_retries=0)
            )
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> RayPool[T, R]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the workers, and the cluster if it is our own."""
        ray = _ray()
        for actor in self._actors:
            with contextlib.suppress(Exception):  # it is gone, or the cluster is
                ray.kill(actor)
        self._actors.clear()
        if self._own:
            ray.shutdown()

    async def start(self) -> _RayWorker[T, R]:
        """A new worker, wherever the cluster has room for one.

        Raises:
            WorkerLost: it died while it started.
            SimenvError: it cannot be built.
        """
        actor = self._host.remote(str(Path.cwd()), sys.path)
        self._actors.append(actor)
        watch = threading.Timer(_PATIENCE, self._complain)
        watch.daemon = True
        if not self._started:
            watch.start()
        try:
            built = await _reply(actor.build.remote(self._pickled, self.size))
        except BaseException:
            self._end(actor)
            raise
        finally:
            watch.cancel()
        self._started = True
        if isinstance(built, _Failed):
            raise built.error("a worker cannot be built")
        return _RayWorker(self, actor)

    def _end(self, actor: Any) -> None:
        if actor in self._actors:
            self._actors.remove(actor)
            with contextlib.suppress(Exception):
                _ray().kill(actor)

    def _complain(self) -> None:
        if not self._started:
            self._started = True  # once is enough
            free = _ray().available_resources()
            self._warned(
                f"no worker has started after {_PATIENCE:g} s: each needs 1 CPU and {self._gpus} GPUs, the cluster has "
                f"{free.get('CPU', 0):g} and {free.get('GPU', 0):g} free"
            )

    def _room(self) -> int:
        total = _ray().cluster_resources()
        return max(1, int(total.get("GPU", 0) // self._gpus if self._gpus else total.get("CPU", 0)))

    def _put(self, make: Callable[[int], Runner[T, R]]) -> Any:
        from ray import cloudpickle

        try:
            return _ray().put(cloudpickle.dumps(make))
        except Exception as error:  # the code of a plug-in may raise anything
            raise InputError(f"what workers need cannot be sent to them: {reason(error)}") from error


class _RayWorker(Generic[T, R]):
    def __init__(self, pool: RayPool[T, R], actor: Any) -> None:
        self._pool = pool
        self._actor = actor

    async def run(self, task: T) -> R:
        try:
            result: R | _Failed = await _reply(self._actor.run.remote(task))
        except WorkerLost:
            self._pool._end(self._actor)
            raise
        if isinstance(result, _Failed):
            raise result.error("")
        return result


def require_ray() -> None:
    """Raises InputError if Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise InputError("the engine ray needs the package ray", hint="pip install 'simenv-ads[ray]'")


def _ray() -> Any:
    import ray

    return ray


async def _reply(reference: Any) -> Any:
    import asyncio

    from ray.exceptions import RayError, RayTaskError

    future: Future[Any] = reference.future()
    try:
        return await asyncio.wrap_future(future)
    except RayTaskError:
        raise  # an error in the code that runs, with its traceback
    except RayError as error:
        raise WorkerLost(_how(str(error))) from None


def _how(text: str) -> str:
    """The message of Ray's error about a worker, in short."""
    text = " ".join(text.split())
    found = {name: re.search(rf"\b{name}: (\S+)", text) for name in ("pid", "ip")}
    named = ", ".join(f"{name} {match[1]}" for name, match in found.items() if match)
    detail = re.search(r"Worker exit detail: (.+?)(?: Some common causes|$)", text)
    said = detail[1] if detail else text[:_LONGEST]
    return f"{said} ({named})" if named else said


def _connect(address: str | None, workers: int | None) -> bool:
    """Connects this process to a cluster. Returns whether the connection, or the cluster, is ours to end."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray = _ray()
    if ray.is_initialized() and address is None:
        return False
    options: dict[str, Any] = {"address": address}
    if address is None:
        options = {
            "address": "local",  # not the one that the environment may name
            "num_cpus": workers,
            "include_dashboard": False,
            "object_store_memory": _STORE,
        }
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if main else None
    try:
        ray.init(**options, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # ConnectionError, RuntimeError, ValueError and others, by what is wrong
        raise InputError(f"cannot connect to Ray{f' at {address}' if address else ''}: {reason(error)}") from error
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)  # Ray's own handler would end the process at once
    # A thread of Ray's prints on standard output that a worker died. `dispatch` says so in one line.
    inner: Any = sys.modules.get("ray._private.worker")
    if hasattr(inner, "print_to_stdstream"):
        inner.print_to_stdstream = lambda *_, **__: None
    return True

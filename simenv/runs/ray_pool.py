"""Workers on a Ray cluster: each is an actor that builds what it needs once and then runs tasks."""

from __future__ import annotations

import contextlib
import os
import re
import socket
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
from simenv.runs.dispatch import Worker, WorkerLost
from simenv.runs.ray_cluster import connect, ray_module, require_ray

T = TypeVar("T")
R = TypeVar("R")
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
        workers: Their number; by default as many as the processors of the cluster are enough for, or its GPUs.
        address: HOST:PORT of a running cluster, or "auto"; by default one is started on this machine. If the process is
            connected to a cluster already, and no address is given, that one is used.
        at_once: Tasks that run at the same time in all workers together; each runs at least one.
        cpus: Processors that each worker has for itself. Its libraries use as many threads.
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
        cpus: int = 1,
        gpus: int = 0,
        warned: Callable[[str], None] = lambda text: None,
    ) -> None:
        require_ray()
        self._cpus, self._gpus = cpus, gpus
        self._warned = warned
        self._actors: list[Any] = []
        self._started = False
        self._idle: list[Worker[T, R]] = []
        self._own = connect(address, None if workers is None else workers * cpus)
        try:
            self.size = workers or self._room()
            self.at_once = -(-at_once // self.size)
            self._pickled = self._put(make)
            self._host: Any = (
                ray_module()
                .remote(_Host)
                .options(num_cpus=cpus, num_gpus=gpus, max_concurrency=self.at_once, max_restarts=0, max_task_retries=0)
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
        ray = ray_module()
        for actor in self._actors:
            with contextlib.suppress(Exception):  # it is gone, or the cluster is
                ray.kill(actor)
        self._actors.clear()
        if self._own:
            ray.shutdown()

    def give_back(self, worker: Worker[T, R]) -> None:
        self._idle.append(worker)

    async def start(self) -> Worker[T, R]:
        """A worker that was given back, or a new one, wherever the cluster has room for it.

        Raises:
            WorkerLost: it died while it started.
            SimenvError: it cannot be built.
        """
        if self._idle:
            return self._idle.pop()
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
                ray_module().kill(actor)

    def _complain(self) -> None:
        if not self._started:
            self._started = True  # once is enough
            free = ray_module().available_resources()
            self._warned(
                f"no worker has started after {_PATIENCE:g} s: each needs {self._cpus} CPUs and {self._gpus} GPUs, the "
                f"cluster has {free.get('CPU', 0):g} and {free.get('GPU', 0):g} free"
            )

    def _room(self) -> int:
        total = ray_module().cluster_resources()
        return max(1, int(total.get("GPU", 0) // self._gpus if self._gpus else total.get("CPU", 0) // self._cpus))

    def _put(self, make: Callable[[int], Runner[T, R]]) -> Any:
        from ray import cloudpickle

        try:
            return ray_module().put(cloudpickle.dumps(make))
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

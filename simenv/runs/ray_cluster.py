"""The connection of this process to a Ray cluster: one of its own on this machine, or one that runs."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from simenv.errors import InputError
from simenv.importing import reason

_STORE = 2**28
"""Bytes of the object store of a cluster of our own: results wait there, a few at a time."""
_CONNECT = 10.0
"""Seconds that a cluster has to accept a connection."""
_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""What Ray reads at its import, where the user has not set it: no reports to its makers, no warning about GPUs."""


def require_ray() -> None:
    """Raises InputError if Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise InputError("the engine ray needs the package ray", hint="pip install 'simenv-ads[ray]'")


def ray_module() -> Any:
    """The package, imported when it is needed."""
    import ray

    return ray


def _try(address: str) -> None:
    """Raises InputError if nothing listens at HOST:PORT: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():  # such as "auto"
        return
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"cannot connect to Ray at {address}: {error}") from None


def connect(address: str | None, cpus: int | None) -> bool:
    """Connects this process to a cluster; without an address to a new one with so many processors, by default all.

    Returns:
        Whether the connection, and with it a cluster of our own, is ours to end.

    Raises:
        InputError: the cluster cannot be reached.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if address is not None:
        _try(address)
        token = Path("~/.ray/auth_token").expanduser()
        if "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ or token.is_file():
            os.environ.setdefault("RAY_AUTH_MODE", "token")  # as `ray start` does, but not `ray.init`
    ray = ray_module()
    if ray.is_initialized() and address is None:
        return False
    options: dict[str, Any] = {"address": address}
    if address is None:
        options = {
            "address": "local",  # not the one that the environment may name
            "num_cpus": cpus,
            "include_dashboard": False,
            "object_store_memory": _STORE,
        }
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if main else None
    begun = False
    try:
        ray.init(**options, log_to_driver=False, logging_level="ERROR")
        begun = True
    except Exception as error:  # ConnectionError, RuntimeError, ValueError and others, by what is wrong
        hint = "RAY_AUTH_MODE and RAY_AUTH_TOKEN must fit the cluster" if address else None
        at = f" at {address}" if address else ""
        raise InputError(f"cannot connect to Ray{at}: {reason(error)}", hint=hint) from error
    finally:
        if not begun:  # also where Ctrl-C ends the wait
            ray.shutdown()
        if main:
            signal.signal(signal.SIGTERM, before)  # Ray's own handler would end the process at once
    # A thread of Ray's prints on standard output that a worker died. `dispatch` says so in one line.
    inner: Any = sys.modules.get("ray._private.worker")
    if hasattr(inner, "print_to_stdstream"):
        inner.print_to_stdstream = lambda *_, **__: None
    return True

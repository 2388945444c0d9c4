"""What a module of this folder says where its framework is not installed."""

from __future__ import annotations

from simenv.errors import InputError


def missing(error: ModuleNotFoundError, package: str, extra: str) -> Exception:
    """The error to raise instead of `error`: of the framework itself, or of another package that it lacks."""
    if error.name is None or error.name.partition(".")[0] != package:
        return error
    return InputError(f"this needs the package {package}", hint=f"pip install 'simenv-ads[{extra}]'")

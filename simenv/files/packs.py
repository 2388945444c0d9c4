"""Locations and versions of the data packs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from simenv.errors import UnknownName

_FOLDERS = {"personas": "personas", "catalog": "ad_catalogs", "queries": "personas/queries"}
_ENDINGS = {"personas": ".jsonl", "ad_catalogs": ".jsonl", "personas/queries": ".txt"}


def pack_path(kind: str, name: str | Path) -> Path:
    """Returns the file of a pack: an embedded pack for a name without suffix, else the path itself.

    Args:
        kind: The embedded folder: "personas", "ad_catalogs" or "personas/queries".
        name: A pack's name or a file.

    Raises:
        UnknownName: no embedded pack has this name.
    """
    path = Path(name)
    if path.suffix or len(path.parts) > 1:
        return path
    folder = _folder(kind)
    if not (folder / f"{name}{_ENDINGS[kind]}").is_file():
        known = [file.stem for file in folder.glob(f"*{_ENDINGS[kind]}")]
        raise UnknownName(f"pack of {kind}", str(name), known, hint="a file of yours needs its ending")
    return folder / f"{name}{_ENDINGS[kind]}"


def pack_versions(hashes: Mapping[str, str]) -> dict[str, str | None]:
    """Returns name and version ("everyday 1") of the embedded packs with these hashes; None for any other data.

    `packs.json` in the folder of the packs maps name -> version -> SHA-256. An edited pack has no version until its new
    version is listed there.

    Args:
        hashes: "catalog", "personas" or "queries" -> SHA-256 of the records.
    """
    versions: dict[str, str | None] = {}
    for what, sha256 in hashes.items():
        packs = json.loads((_folder(_FOLDERS[what]) / "packs.json").read_text(encoding="utf-8"))
        known = {sha: f"{name} {version}" for name, of in packs.items() for version, sha in of.items()}
        versions[what] = known.get(sha256)
    return versions


def _folder(kind: str) -> Path:
    # In the parent folder of simenv, both installed and in a checkout. The user's path may have a folder of that name.
    return Path(str(files("simenv"))).parent / kind

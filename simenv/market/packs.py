"""Where the data packs are."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from simenv.errors import UnknownName


_ENDINGS = {"personas": ".jsonl", "ad_catalogs": ".jsonl", "personas/queries": ".txt"}


def pack_path(kind: str, name: str | Path) -> Path:
    """The file of a pack: a name without ending is looked up in the embedded folder, anything else is a path.

    Args:
        kind: The embedded folder: "personas", "ad_catalogs" or "personas/queries".
        name: A pack's name or a file.

    Raises:
        UnknownName: no embedded pack of that name.
    """
    path = Path(name)
    if path.suffix or len(path.parts) > 1:
        return path
    # Beside simenv, both installed and in a checkout; a folder of that name in the user's own path is not ours.
    folder = Path(str(files("simenv"))).parent / kind
    if not (folder / f"{name}{_ENDINGS[kind]}").is_file():
        known = [file.stem for file in folder.glob(f"*{_ENDINGS[kind]}")]
        raise UnknownName(f"pack of {kind}", str(name), known, hint="a file of yours needs its ending")
    return folder / f"{name}{_ENDINGS[kind]}"

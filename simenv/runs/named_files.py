"""The files that a run's options name beside its data packs, by the hash of their content.

Such as a learned CTR model (learned:FILE), strategies that an audit learned, a trained adapter, the folder of a local
model, a cassette to replay. Cassettes that the run writes are not among them: they grow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from simenv import registry
from simenv.errors import DataFileError
from simenv.runs.build import labelled, parts_of
from simenv.runs.options import RunOptions

_OF_A_MODEL = frozenset({".bin", ".gguf", ".jinja", ".json", ".model", ".pt", ".safetensors", ".txt"})
"""Endings of files in a folder that a model or an adapter is made of."""
_OF_A_TRAINING = frozenset({"manifest.json", "state.pt"})
"""Files in the folder of a trained adapter that change no answer."""
_WHOLE = 2**28
"""Bytes of a file that is hashed whole. Of a larger one, whose hash would take as long as loading it, pieces are."""
_PIECES, _PIECE = 256, 2**18
_LONGEST_PATH = 256


def file_hashes(options: RunOptions) -> dict[str, str]:
    """Returns the SHA-256 of the content of each file or folder that the options name, by its name as it is written.

    Of a folder, these are the files of a model in it. Of a file above 256 MB, 256 pieces are hashed.

    Raises:
        DataFileError: a file cannot be read.
    """
    hashes = {}
    for name in _names(options):
        path = Path(name).expanduser()
        if path.is_file():
            hashes[name] = _file_sha256(path)
        elif path.is_dir() and (inner := _model_files(path)):
            lines = (f"{file.name} {_file_sha256(file)}\n" for file in inner)
            hashes[name] = hashlib.sha256("".join(lines).encode()).hexdigest()
    return hashes


def differing_files(now: Mapping[str, str], before: Mapping[str, str]) -> list[str]:
    """Returns what differs, one text each."""
    return [
        f"{name} was {before.get(name, 'not there')[:12]}, now {now.get(name, 'not there')[:12]}"
        for name in dict.fromkeys((*before, *now))
        if before.get(name) != now.get(name)
    ]


def _names(options: RunOptions) -> Iterator[str]:
    if options.replay is not None:
        yield options.replay
    for part in parts_of(options, labelled(options.mechanisms)):
        head, colon, text = part.name.partition(":")
        if colon and head in registry.names(part.kind):
            yield from _paths(text.partition("#")[0])
    for setting in map(registry.parse_setting, options.settings):
        yield from _paths(setting.value)


def _paths(value: Any) -> Iterator[str]:
    """What may be a path in the text of an option: "FILE", "FILE,FILE", "learned:FILE", or a list of them."""
    for text in value if isinstance(value, list) else [value]:
        if isinstance(text, str):
            for one in text.split(","):
                _, colon, rest = one.partition(":")
                yield from (path for path in ((one, rest) if colon else (one,)) if 0 < len(path) < _LONGEST_PATH)


def _model_files(folder: Path) -> list[Path]:
    return sorted(
        file
        for file in folder.iterdir()
        if file.is_file() and file.suffix in _OF_A_MODEL and file.name not in _OF_A_TRAINING
    )


def _file_sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if size <= _WHOLE:
                return hashlib.file_digest(file, "sha256").hexdigest()
            digest = hashlib.sha256(str(size).encode())
            for i in range(_PIECES):
                file.seek(i * (size - _PIECE) // (_PIECES - 1))
                digest.update(file.read(_PIECE))
            return digest.hexdigest()
    except OSError as error:
        raise DataFileError(f"{path}: cannot be read: {error.strerror}") from None

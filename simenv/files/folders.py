"""New output files and folders. Existing files are never overwritten, and a place is tried before the work starts."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from simenv.errors import CannotWrite, DataFileError
from simenv.files.atomic import writing

_TRIED = 4096
"""Bytes that a try writes: an empty file can be made on a full disk."""


def check_folder(
    folder: Path, *, ignored: Callable[[Path], bool] = lambda file: False, otherwise: str = "give a new folder"
) -> None:
    """Refuses a folder that is used, or that cannot be written, before anything slow happens.

    Args:
        folder: A folder that is new or empty.
        ignored: Tells the files that may be there.
        otherwise: What the caller can do, for messages.

    Raises:
        DataFileError: it is a file, or not empty.
        CannotWrite: it cannot be made or written.
    """
    if folder.is_file():
        raise DataFileError(f"{folder} is a file: give a new folder")
    if folder.is_dir() and not all(map(ignored, folder.iterdir())):
        raise DataFileError(f"{folder} is not empty: {otherwise}")
    try_folder(folder)


def check_new_file(path: Path, *endings: str) -> None:
    """Refuses a file that exists, or that cannot be written, before anything slow happens.

    Args:
        path: A file that does not exist yet.
        endings: The endings that it may have; any if there is none.

    Raises:
        DataFileError: another ending, a file that exists, or a folder that does not.
        CannotWrite: the folder cannot be written.
    """
    if endings and path.suffix not in endings:
        raise DataFileError(f"{path}: ending {path.suffix!r} is not written here, expected {' or '.join(endings)}")
    if path.exists():
        raise DataFileError(f"{path} exists already: give a new file, nothing is overwritten")
    try_file(path)


def try_file(path: Path) -> None:
    """Tries whether a file can be written, and changes nothing: it may exist, or be a new one.

    Raises:
        DataFileError: its folder does not exist.
        CannotWrite: the operating system refuses it.
    """
    if not path.parent.is_dir():
        raise DataFileError(f"{path}: folder {path.parent} does not exist")
    if path.exists():
        with writing(path):
            path.open("ab").close()
    try_folder(path.parent, path)


def try_folder(folder: Path, shown: Path | None = None) -> None:
    """Writes a little into a folder, or into the nearest one above that exists, and leaves nothing there.

    Args:
        folder: The folder.
        shown: What the message names; the folder by default.

    Raises:
        CannotWrite: the operating system refuses it.
    """
    with writing(shown or folder):
        place = folder
        while not place.exists():
            place = place.parent
        if not place.is_dir():
            raise CannotWrite(f"cannot make folder {folder}: {os.strerror(errno.ENOTDIR)}")
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(bytes(_TRIED))
            file.flush()
            os.fsync(file.fileno())


def make_folder(folder: Path) -> None:
    """Makes `folder`, which must be new or empty.

    Raises:
        DataFileError: it is a file or not empty.
        CannotWrite: it cannot be made or written.
    """
    check_folder(folder)
    ensure_folder(folder)


def ensure_folder(folder: Path) -> None:
    """Makes `folder` and those above it, if they are not there.

    Raises:
        CannotWrite: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(f"cannot make folder {folder}: {error.strerror}") from error

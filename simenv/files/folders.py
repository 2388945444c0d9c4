"""New output folders. Existing files are never overwritten."""

from __future__ import annotations

from pathlib import Path

from simenv.errors import DataFileError


def check_folder(folder: Path) -> None:
    """Raises DataFileError unless `folder` is new or empty."""
    if folder.is_file():
        raise DataFileError(f"{folder} is a file: give a new folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise DataFileError(f"{folder} is not empty: give a new folder")


def make_folder(folder: Path) -> None:
    """Creates `folder`.

    Raises:
        DataFileError: it is a file or not empty, or it cannot be created.
    """
    check_folder(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataFileError(f"cannot make folder {folder}: {error.strerror}") from None

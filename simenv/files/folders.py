"""Folders that are written anew: nothing that is there already is overwritten."""

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
    """Raises DataFileError unless `folder` is new or empty, and can be made."""
    check_folder(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataFileError(f"cannot make folder {folder}: {error.strerror}") from None

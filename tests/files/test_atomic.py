"""Files are replaced whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from simenv.errors import CannotWrite
from simenv.files.atomic import append_bytes, replacing, write_bytes_atomically


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_bytes_atomically(file, b"old")
    write_bytes_atomically(file, b"new")
    assert file.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("shared", [False, True])
def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path, shared: bool) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(b"old")

    def fail() -> None:
        with replacing(file, shared=shared) as part:
            assert part.parent == tmp_path
            part.write_bytes(b"ha")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_what_a_killed_writer_left_is_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    (tmp_path / "a.json.part").write_bytes(b"half of a longer file")
    write_bytes_atomically(file, b"whole")
    assert file.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CannotWrite, match="No such file"):
        write_bytes_atomically(tmp_path / "none" / "a.json", b"x")


def test_append(tmp_path: Path) -> None:
    append_bytes(tmp_path / "a.jsonl", b"1\n")
    append_bytes(tmp_path / "a.jsonl", b"2\n")
    assert (tmp_path / "a.jsonl").read_bytes() == b"1\n2\n"

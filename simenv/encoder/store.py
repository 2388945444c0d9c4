"""Vectors of texts that were encoded before, in one SQLite file of the user's cache folder that all processes share.

A store only saves time: what cannot be read counts as unknown, and what cannot be written is dropped. Every row has a
checksum over its key and its vector, so a damaged file gives no wrong vector.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from simenv.encoder.protocol import Vectors

MAX_ROWS = 100_000
"""Rows that a store keeps: about 190 MB for vectors of 384 numbers."""
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL, used INTEGER NOT NULL DEFAULT 0)"
)
_WAIT = 0.05
"""Seconds to wait for another process that writes; then the texts are encoded, or written with the next ones."""
_MAX_PENDING = 4096
_PAUSE = 1.0
"""Seconds without a store after an attempt that failed, so that a stuck process does not slow each look-up."""
_AT_ONCE = 500
"""Keys of one query."""


class VectorStore:
    """Reads and writes vectors by text.

    Vectors that no later process asked for go first when the file is full, then those whose last use is longest ago.

    Args:
        file: The SQLite file; its folder is created when something is written.
        version: What the vectors depend on beside the text: model, weights, runtime, processor. Vectors of other
            versions are kept, and not seen.
        width: Numbers of a vector.
        max_rows: Rows that are kept.
        batch: New vectors that are collected before they are written; `flush` writes them at once.
    """

    def __init__(self, file: Path, version: str, width: int, *, max_rows: int = MAX_ROWS, batch: int = 256) -> None:
        self._file = file
        self._version = hashlib.sha256(version.encode()).digest()
        self._width = width
        self._max_rows = max_rows
        self._batch = batch
        self._pending: dict[bytes, bytes] = {}
        self._touched: set[bytes] = set()
        self._connection: sqlite3.Connection | None = None
        self._paused_until = 0.0
        self._lock = threading.Lock()
        self._process = os.getpid()

    def get(self, texts: Sequence[str]) -> dict[str, Vectors]:
        """The vectors that the store has, by text. About 10 microseconds a text."""
        keys = {self._key(text): text for text in texts}
        found: dict[str, Vectors] = {}
        if not self._ready() or not self._file.is_file():
            return found

        def read(connection: sqlite3.Connection) -> None:
            names, today = list(keys), _today()
            for start in range(0, len(names), _AT_ONCE):
                part = names[start : start + _AT_ONCE]
                query = f"SELECT key, vector, used FROM vectors WHERE key IN ({','.join('?' * len(part))})"
                for key, row, used in connection.execute(query, part).fetchall():
                    vector = self._unpacked(key, row)
                    if vector is not None and key in keys:
                        found[keys[key]] = vector
                        if used != today:
                            self._touched.add(key)

        self._try(read)
        return found

    def put(self, vectors: Mapping[str, Vectors]) -> None:
        """Keeps new vectors for later processes."""
        self._ready()
        with self._lock:
            for text, vector in vectors.items():
                key = self._key(text)
                data = vector.astype("<f4").tobytes()
                self._pending[key] = data + _checksum(key, data)
            full = len(self._pending) >= self._batch
        if full:
            self.flush()

    def flush(self) -> None:
        """Writes what was collected."""
        if not self._ready() or not (self._pending or self._touched):
            return
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
        self._try(self._write)

    def _write(self, connection: sqlite3.Connection) -> None:
        if len(self._pending) > _MAX_PENDING:  # they could not be written for long
            self._pending.clear()
        with connection:  # one transaction
            connection.execute(_SCHEMA)
            rows, uses = self._pending.items(), [(_today(), key) for key in self._touched]
            connection.executemany("INSERT OR REPLACE INTO vectors (key, vector) VALUES (?, ?)", rows)
            connection.executemany("UPDATE vectors SET used = ? WHERE key = ?", uses)
            (count,) = connection.execute("SELECT count(*) FROM vectors").fetchone()
            if count > self._max_rows:
                oldest = "SELECT rowid FROM vectors ORDER BY used, rowid LIMIT ?"
                surplus = count - self._max_rows * 9 // 10
                connection.execute(f"DELETE FROM vectors WHERE rowid IN ({oldest})", (surplus,))
        self._pending.clear()
        self._touched.clear()

    def _ready(self) -> bool:
        """Whether to try the file now. In a forked child it first lets go of what belongs to the parent."""
        if self._process != os.getpid():
            self._of_parent = self._connection  # never used here, and not closed: that would end the parent's locks
            self._connection, self._lock, self._process = None, threading.Lock(), os.getpid()
        return time.monotonic() >= self._paused_until

    def _try(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Calls `work`, one thread at a time. An error of SQLite ends the work and nothing else."""
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = sqlite3.connect(self._file, timeout=_WAIT, check_same_thread=False)
                    self._connection.execute("PRAGMA page_size = 8192")  # of a new file: five vectors fill a page
                    self._connection.execute("PRAGMA synchronous = OFF")  # checksums find what a loss of power damages
                work(self._connection)
            except sqlite3.OperationalError:  # busy, full, read-only: perhaps not later
                self._paused_until = time.monotonic() + _PAUSE
            except sqlite3.Error:  # not a database, or a damaged one: the next process begins a new file
                self._paused_until = float("inf")
                with contextlib.suppress(OSError, sqlite3.Error):
                    if self._connection is not None:
                        self._connection.close()
                    self._file.unlink(missing_ok=True)

    def _key(self, text: str) -> bytes:
        return hashlib.sha256(self._version + text.encode("utf-8", "surrogatepass")).digest()

    def _unpacked(self, key: bytes, row: object) -> Vectors | None:
        if not isinstance(row, bytes) or len(row) != 4 * self._width + 8:
            return None
        data, check = row[:-8], row[-8:]
        return np.frombuffer(data, "<f4").astype(np.float32) if check == _checksum(key, data) else None


def _today() -> int:
    return int(time.time() // 86_400)


def _checksum(key: bytes, data: bytes) -> bytes:
    return hashlib.blake2b(key + data, digest_size=8).digest()

"""The file of a click-intent evaluator: JSON with its numbers, what it was learned from, and a hash of all of it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, JsonValue, ValidationError, model_validator

from simenv.ctr.ad_view import width
from simenv.ctr.monotone_map import MonotoneMap
from simenv.ctr.ordinal import GRADES
from simenv.errors import DataFileError
from simenv.files.atomic import write_bytes_atomically
from simenv.files.folders import check_new_file
from simenv.files.limits import read_bytes
from simenv.records import Record

Floats = npt.NDArray[np.float64]
_NUMBER = np.dtype("<f4")


class EvaluatorFile(Record):
    """The content of the file. Arrays are float32, little-endian, in base64."""

    format: Literal[1] = 1
    encoder: str
    """Name of the encoder whose vectors it reads."""
    dimension: int = Field(ge=1)
    """Dimensions of these vectors."""
    units: int = Field(ge=1)
    """Hidden units."""
    targets: tuple[str, ...] = Field(min_length=1)
    """What was learned; the first is the click intent."""
    mean: str
    """Of each input."""
    scale: str
    """By which each input, less its mean, is divided."""
    hidden: str
    """W of the head: inputs times units."""
    weights: str
    """v of the head: units times targets."""
    cuts: str
    """c of the head: targets times four thresholds."""
    map: MonotoneMap
    """From the score of click intent to a click probability."""
    position_discount: float = Field(gt=0, le=1)
    """Factor on clicks per place further down, averaged over held-out ads."""
    learned: dict[str, JsonValue] = Field(default_factory=dict)
    """What it was learned from, for people."""
    sha256: str = ""
    """Of all other fields."""

    @model_validator(mode="after")
    def _sound(self) -> EvaluatorFile:
        for name, shape in self._shapes().items():
            if len(base64.b64decode(getattr(self, name), validate=True)) != np.prod(shape) * _NUMBER.itemsize:
                raise ValueError(f"{name} has another length than {' x '.join(map(str, shape))} numbers")
            if not np.isfinite(self.array(name)).all():
                raise ValueError(f"{name} has numbers that are not finite")
        if not (self.array("scale") > 0).all():
            raise ValueError("scale must be above 0")
        if self.sha256 and self.sha256 != self.computed_sha256():
            raise ValueError(f"its content has the hash {self.computed_sha256()[:12]}, not {self.sha256[:12]}")
        return self

    def array(self, name: str) -> Floats:
        """One of the arrays: mean, scale, hidden, weights or cuts."""
        raw = np.frombuffer(base64.b64decode(getattr(self, name)), _NUMBER)
        return raw.reshape(self._shapes()[name]).astype(np.float64)

    def computed_sha256(self) -> str:
        """SHA-256 of all fields but `sha256`."""
        fields = self.model_dump(mode="json", exclude={"sha256"})
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Writes the file, with its hash.

        Raises:
            DataFileError: the file exists, or cannot be written.
        """
        check_new_file(path, ".json")
        hashed = self.model_copy(update={"sha256": self.computed_sha256()})
        write_bytes_atomically(path, (hashed.model_dump_json(indent=1) + "\n").encode())

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        inputs, targets = width(self.dimension), len(self.targets)
        return {
            "mean": (inputs,),
            "scale": (inputs,),
            "hidden": (inputs, self.units),
            "weights": (self.units, targets),
            "cuts": (targets, GRADES - 1),
        }


def read_evaluator(path: str | Path) -> EvaluatorFile:
    """Reads the file that `simenv fit-evaluator` wrote.

    Raises:
        DataFileError: no such file, not an evaluator, or its content is not what was written.
    """
    try:
        found = EvaluatorFile.model_validate_json(read_bytes(Path(path)))
    except ValidationError as error:
        first = error.errors()[0]
        raise DataFileError(
            f"{path}: not a click-intent evaluator: {'.'.join(map(str, first['loc']))} {first['msg']}"
        ) from None
    if not found.sha256:
        raise DataFileError(f"{path}: not a click-intent evaluator: it has no sha256 of its content")
    return found


def encoded(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, str]:
    """Arrays as the file has them: name -> float32 in base64."""
    return {
        name: base64.b64encode(np.ascontiguousarray(array, dtype=_NUMBER).tobytes()).decode("ascii")
        for name, array in arrays.items()
    }

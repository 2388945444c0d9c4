"""The files of a LoRA adapter, read without torch.

They have peft's format (adapter_config.json, adapter_model.safetensors), so peft can read them too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from simenv.errors import DataFileError
from simenv.files.limits import check_regular, read_bytes
from simenv.llm.llama_graph import read_weights
from simenv.llm.model_folder import damaged_file

SHIPPED = Path(__file__).parent / "adapter"
"""The adapter that ships with the package, trained on the embedded model; its manifest has the training options."""
PREFIX = "base_model.model."
"""Of all names of weights in the file."""
A, B = ".lora_A.weight", ".lora_B.weight"
Changes = dict[str, tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]
"""Name of a weight -> two matrices whose product is added to it."""


class Adapter(NamedTuple):
    """A saved adapter: y = W x + (alpha / r) B A x."""

    r: int
    alpha: float
    factors: dict[str, npt.NDArray[np.float32]]
    """Name in the file -> A, shape (r, fan in), or B, shape (fan out, r)."""


def read_adapter(folder: Path) -> Adapter:
    """Reads an adapter.

    Raises:
        DataFileError: the folder has no adapter, or a damaged one.
    """
    config_file, weights = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    for file in (config_file, weights):
        if not file.exists():
            raise DataFileError(f"{folder}: not a LoRA adapter: it has no {file.name}")
        check_regular(file)
    if damaged := damaged_file(folder):
        raise DataFileError(damaged, hint="copy the adapter again")
    try:
        config = json.loads(read_bytes(config_file).decode())
        factors = {name: value.astype(np.float32) for name, value in read_weights(weights).items()}
        r, alpha = int(config["r"]), float(config["lora_alpha"])
        blocks_of(factors)
        ranks = {value.shape[0] for name, value in factors.items() if ".lora_A." in name}
        if ranks != {r} or r < 1 or not math.isfinite(alpha):  # before a layer of that rank is made
            raise ValueError(f"rank {r:.6g} and scale {alpha}, the weights have rank {sorted(ranks)}")
    except (OSError, ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        raise DataFileError(f"{folder}: not a LoRA adapter: {error!r:.200}") from None
    return Adapter(r, alpha, factors)


def blocks_of(trained: Iterable[str]) -> list[int]:
    """Indices of the transformer blocks that these weight names belong to."""
    return sorted({int(name.split(".layers.")[1].split(".")[0]) for name in trained})


def of_another_model(folder: Path) -> DataFileError:
    """The error for an adapter that does not fit."""
    return DataFileError(f"{folder}: the adapter belongs to another model: its layers do not match this model's")


def changes_of(folder: Path, base: Path) -> Changes:
    """What an adapter adds to the weights of its base model.

    Args:
        folder: The adapter's folder.
        base: The folder of the base model.

    Returns:
        Name of a weight -> (alpha / r) B and A, whose product is added to it.

    Raises:
        DataFileError: the folder has no adapter, a damaged one, or one of another model.
    """
    adapter = read_adapter(folder)
    shapes = {name: value.shape for name, value in read_weights(base / "model.safetensors").items()}
    if any(name.removesuffix(A) + B not in adapter.factors for name in adapter.factors if name.endswith(A)):
        raise of_another_model(folder)
    changes = changes_by(adapter.factors, adapter.alpha / adapter.r)
    for weight, (b, a) in changes.items():
        if b.shape[1:] != a.shape[:1] or shapes.get(weight) != (b.shape[0], a.shape[1]):
            raise of_another_model(folder)
    return changes


def changes_by(factors: Mapping[str, npt.NDArray[np.float32]], scale: float) -> Changes:
    """What factors add to the weights of their base model: as `changes_of`.

    Args:
        factors: As in `Adapter`.
        scale: alpha / r.
    """
    layers = [name.removesuffix(A) for name in factors if name.endswith(A)]
    return {
        f"{layer.removeprefix(PREFIX)}.weight": (np.float32(scale) * factors[layer + B], factors[layer + A])
        for layer in layers
    }

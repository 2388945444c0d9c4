"""Environment variables that torch and transformers read once, at first use."""

from __future__ import annotations

import os

_DEFAULTS = {
    "HF_HUB_OFFLINE": "1",  # a local folder never needs the hub
    # oneDNN builds a kernel for every matrix shape, about 0.8 MB each for the embedded model, and almost every prompt
    # length is a new shape. By default it caches 1,024 kernels, and so does PyTorch's layer above it: the memory of a
    # long run grew by a gigabyte. Building a kernel takes about a millisecond, and a batch needs about five.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128",
    "LRU_CACHE_CAPACITY": "128",
}


def set_torch_defaults() -> None:
    """Sets the variables that the user has not set. It has an effect only before torch's first matrix product."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)

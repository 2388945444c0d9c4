"""Packs of personas: each .jsonl file here is a pack that `simenv` finds by its name."""

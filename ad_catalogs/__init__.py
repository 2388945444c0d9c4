"""Catalogs of ads: each .jsonl file here is a pack that `simenv` finds by its name."""

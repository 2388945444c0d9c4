"""Files of any kind: rows of tables, data packs, prompts, tables of reports, new folders, and writes that are atomic.

Knows records and errors and nothing of auctions; every part above may import it. The formats of single parts stand with
those parts, such as a run's folder in `simenv.runs.folder`.
"""

"""File access: rows of tables, data packs, prompts, report tables, new folders and atomic writes.

Depends on records and errors, not on auctions; all layers above may import it. Formats of a single part are defined in
that part, such as a run's folder in `simenv.runs.folder`.
"""

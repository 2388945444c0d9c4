"""Datasets from the log of a run: `export.py` writes clicks, `training_data.py` preferences, SFT and KTO rows.

`columns.py` has the columns and types of every format. Each file gets a dataset card (`dataset_card.py`, with the head
of `front_matter.py`); `hub.py` writes all formats into one folder for a dataset hub. May import
runs and what is below them; only the command line imports it.
"""

"""Runs as files that people train with: `export.py` writes clicks, `training_data.py` preferences, SFT and KTO rows.

Beside each file goes a card, made by `dataset_card.py`. May import runs and what is below them; only the command line
imports it.
"""

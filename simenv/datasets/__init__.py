"""Datasets from the log of a run: click logs, and training data for TRL's trainers."""

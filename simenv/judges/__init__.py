"""Judges: decide which shown ads a persona clicks. The click model, language models, embeddings, and ensembles."""

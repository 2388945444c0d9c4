"""Judges: which shown ads a persona clicks. The click model, language models, embeddings, and ensembles of these.

`base.py` is the interface and `factory.py` builds a judge from its name. May import language models, the encoder and
files; quality measures, CTR models, the world and all above import it.
"""

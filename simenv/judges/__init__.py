"""Judges decide which shown ads a persona clicks: the click model, language models, embeddings, and ensembles.

`base.py` is the interface and `factory.py` builds a judge from its name. May import language models, the encoder and
files; quality measures, CTR models, the world and all above import it.
"""

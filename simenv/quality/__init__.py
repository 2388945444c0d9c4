"""Answer quality beside clicks: measured on embeddings, by likelihoods, or graded by a language model.

`factory.py` builds a measure from its name. May import judges, whose cues it shares, and what is below them; the world
and all above import it.
"""

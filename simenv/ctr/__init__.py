"""CTR models, which predict clicks for mechanisms. `models.py` is the interface, `learned.py` a model fitted to a log.

May import judges (the oracle reads the click model) and what is below them, not the world. Mechanisms and audits
import it.
"""

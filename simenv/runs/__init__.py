"""Runs: mechanisms play auctions of a world, and every transition is logged, summarised and compared.

`build.py` makes what a run needs from its options, `bench.py` runs it, `folder.py` is where it is kept, and `metrics.py`
and `tables.py` turn it into numbers. May import the world and all below it, not the environment, audits or the CLI.
"""

"""Runs: mechanisms answer auctions of a world, and every transition is logged, summarised and compared.

`options.py` and `build.py` make a run from options, `bench.py` runs it, `folder.py` keeps it, `metrics.py` and
`summary.py` turn it into numbers. May import the world and all below it, not the environment, audits or the CLI.
"""

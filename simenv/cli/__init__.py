"""The command line: one module per command, `main.py` for the app, and `options.py` for shared options.

Commands import their dependencies when they run, so that `simenv --help` is fast. May import every part of simenv;
nothing imports it.
"""

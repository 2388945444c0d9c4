"""The command line, one module a command; `main.py` is the app and `options.py` holds what several commands share.

Commands import what they need when they run, so that `simenv --help` is quick. May import every part of simenv; nothing
imports it.
"""

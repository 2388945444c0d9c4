"""simenv in other frameworks: one module each, named for the framework, with an optional extra of the same name.

No other package of simenv imports them, but for the command line. Importing a module imports its framework; without it
the import fails, and says how to install it.
"""

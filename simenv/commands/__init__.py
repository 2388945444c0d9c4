"""Commands of the command line, one module each; `simenv.cli` registers them."""

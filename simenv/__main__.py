"""`python -m simenv`: the command line without its script."""

from simenv.cli.main import main

main()

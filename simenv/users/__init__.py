"""Users: personas, and the sources of their queries."""

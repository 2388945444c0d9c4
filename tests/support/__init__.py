"""What several test files share, apart from fixtures: those are in the `conftest.py` files."""

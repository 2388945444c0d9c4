"""Helpers of several test files. Fixtures are in the `conftest.py` files."""

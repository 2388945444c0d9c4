"""Users: personas, and the sources of their queries.

May import language models and files, not the market or judges. The world and all above import it.
"""

"""Users: personas, and where their questions come from.

May import language models and files, not the market or judges. The world and all above import it.
"""

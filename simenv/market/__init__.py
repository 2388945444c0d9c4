"""The market: catalogs of ads, retrieval of candidates, and advertisers with private values and ways to bid.

May import language models, the encoder and files, not users or judges. The world and all above import it.
"""

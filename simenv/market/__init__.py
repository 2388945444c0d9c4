"""The market: catalogs of ads, retrieval of candidates, private values of advertisers and bidders.

May import language models, the encoder and files, not users or judges. The world and all layers above import it.
"""

"""The market: catalogs, retrieval of candidates, advertisers with private values."""

"""Answers that somebody else's system wrote, judged and measured as if a mechanism had written them.

`rows` reads files and records, `ad_finder` and `placing` tell which ads an answer shows and where, `answers` makes
auctions and outcomes of them, `run` judges them and writes the folder of a run.
"""

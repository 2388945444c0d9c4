"""Audits of incentives: measures the gains of advertisers from bidding other amounts than their values.

run.py        runs an audit
records.py    options, and the keys of audit.json
evaluate.py   evaluates clicks and payments for a profile of bids, by the mechanism's CTR model and in the world
sweep.py      varies one advertiser's bid with all randomness fixed: allocation curves and regret of truthful bidding
play.py       learned play, budgets, and collusion of two advertisers
learned_bidders.py    bidders with the strategies that an audit learned
figures.py    computes the numbers of the report, with intervals, from the measurements
distort.py    distorts click predictions
calls.py      limits the number of language model calls
report.py, plots.py    tables and plots

May import the world, runs and what is below them, not validity reports; only the command line imports it.
"""

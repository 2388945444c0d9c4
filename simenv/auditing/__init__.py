"""The incentive laboratory: what advertisers could gain by other bids than their values, and what that does.

run.py        an audit from end to end
records.py    what it is asked, and the keys of audit.json
evaluate.py   clicks and payments of one auction at any profile of bids, by the mechanism's CTR model and in the world
sweep.py      one advertiser's bid swept, all randomness fixed: allocation curves and regret of truthful bidding
play.py       learned play, budgets, and two advertisers that collude
learned_bidders.py    bidders that bid as others learned to in an audit
figures.py    from what was measured to numbers with intervals
distort.py    wrong predictions of clicks
calls.py      a bound on what language models are asked
report.py, plots.py    for people

May import the world, runs and what is below them, not validity reports; only the command line imports it.
"""

"""`check_mechanism`: the public conformance suite.

Every mechanism must answer every auction, including degenerate ones, with an outcome that matches its own text, and
with the same outcome when it is run again. If it has a `lottery`, draws of its `run` must follow it. In addition, the
suite checks the claims that the mechanism makes, and no others.

suite.py         runs the suite
runner.py        runs the mechanism
sweep.py         varies one advertiser's bid
session_cases.py varies it for whole sessions of a session mechanism
cases.py         the auctions
expected.py      expected clicks and payments, and what each claim says of them at several bids
draws.py         tests draws of `run` against the lottery
conduct.py       what is counted in outcomes: ads shown, charges above the bid, bids in the text
"""

from __future__ import annotations

from simenv.check.cases import random_auction, with_bid
from simenv.check.draws import FALSE_ALARM
from simenv.check.expected import Expected, expectation
from simenv.check.suite import CheckReport, check_mechanism

__all__ = ["FALSE_ALARM", "CheckReport", "Expected", "check_mechanism", "expectation", "random_auction", "with_bid"]

"""The advertiser's report: what each advertiser showed, was clicked for, paid and gained in a run.

`terms` defines every number, `ledger` adds up a log, `counterfactual` answers again without an advertiser, and `report`
puts all of it together.
"""

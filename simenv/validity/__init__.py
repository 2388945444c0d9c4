"""Why these clicks should be believed: a validity report for any judge.

scenarios.py    the contrast suite: situations in 12 categories, split into dev and test (scenarios.jsonl)
ask.py          asks a judge, each case once, and counts what it costs
contrasts.py    ten orders of click probabilities that a careful human would agree with: share ordered rightly
placebos.py     changes that must not matter: mean absolute change in click probability
attacks.py      hostile ad texts (attacks.jsonl): what they gain, and which verdicts they break
outside.py      pairs that this project did not write: the curated Webis pairs, a labelled file of the user's
reliability.py  repeat agreement, agreement with the click model, abstentions, cost
run.py          all of it -> `Validity`, which is validity.json
report.py       the same as tables, report.md and plots

On the command line `simenv validate-judge`; for a judge of one's own, anything with a name and
`async judge(persona, auction, outcome) -> Feedback`:

    found = asyncio.run(validate(MyJudge(), ValidityOptions(part="dev", limit=5)))
    write_report(found, Path("my-judge"))
"""

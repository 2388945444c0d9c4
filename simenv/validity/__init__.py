"""Validity reports: evidence on how far a judge's clicks can be trusted.

scenarios.py    the contrast suite: situations in 12 categories, split into dev and test (scenarios.jsonl)
ask.py          runs a judge once per case and counts the cost
contrasts.py    ten comparisons with a known order of click probabilities: share ordered correctly
placebos.py     changes that must not matter: mean absolute change in click probability
attacks.py      hostile ad texts (attacks.jsonl): their effect on click probability, and unusable verdicts
outside.py      query-ad pairs from other sources: the curated Webis pairs, a labelled file of the user's
reliability.py  repeat agreement, agreement with the click model, abstentions, cost
run.py          runs all parts -> `Validity`, the content of validity.json
report.py       the same as tables, report.md and plots
constant.py     judges that do not read the answer
card.py         the judge card: the report on one page, constant judges, the noise floor on a run

The command is `simenv validate-judge`. A custom judge needs a name and
`async judge(persona, auction, outcome) -> Feedback`:

    report = asyncio.run(validate(MyJudge(), ValidityOptions(part="dev", limit=5)))
    write_report(report, Path("my-judge"))

With a run, the card has the judge's noise floor on its answers:

    card = asyncio.run(judge_card(MyJudge(), report, JudgedRun("runs/first", 200)))
"""

"""What people look at: the data of figures, and one HTML file with tables, plots and answers of runs.

data.py        trade-offs and differences, from a run's table
bids.py        allocation and payment by bid, from its answers
groups.py      click-through rate by position, category and persona group, from its answers
answers.py     the answers that the file holds: a sample of whole questions, ready for the page
attached.py    learning curves, and the reports of `simenv validate-judge` and `simenv audit`
page.py        the file: a template, scripts and styles of the folder web, under a strict content security policy
view.py        reads runs and writes the file
"""

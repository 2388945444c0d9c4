"""`simenv make-pack`: a capable model writes new personas, ads or queries.

kinds.py         the kinds of record: prompt, reply format, checks
cells.py         which combination of factors the next record is written for, so that the pack stays balanced
filters.py       rejects unsuitable texts
duplicates.py    rejects duplicates, near-duplicates and texts with a repeated beginning
pack_file.py     the file of a pack and its manifest: append, resume
write.py         requests records from the model and appends the accepted ones

May import users, the market and what is below them; only the command line imports it.
"""

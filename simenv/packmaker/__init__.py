"""`simenv make-pack`: a capable model writes new personas, ads or queries.

kinds.py         what a record of each kind is, what it is asked for, and how it is read
cells.py         what the next record is to be like, so that the pack stays balanced
filters.py       texts that no pack should hold
duplicates.py    texts that are there already, exactly, nearly, or in their beginning
write.py         asking, appending, going on, and the manifest
pack_file.py     the file that is written, and its manifest

May import users, the market and what is below them; only the command line imports it.
"""

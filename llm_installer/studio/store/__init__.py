"""What the studio knows, in one database: jobs, their events, files, and one-job tokens.

Whoever uses it opens a `Store` (opening.py) and calls the plain functions of jobs.py, claims.py, events.py and files.py
within `with store.writing() as session:` or `with store.reading() as session:`.
"""

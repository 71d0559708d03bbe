"""Whoever asked for it is told what becomes of jobs: signed, in order for each job, and again until it was heard."""

"""Which right a request needs, by its method and path: one table, of which the first row that fits decides."""

from __future__ import annotations

import re

from llm_installer.studio.access.rights import ADMINISTER, BE_WORKER, DO, LOOK, OWN, TALK

FREE = ""
"""Whoever asks may."""
SAFE = ("GET", "HEAD", "OPTIONS")
_ANY, _READING, _CHANGING = "any", "reading", "changing"
TABLE = (
    (_READING, r"/health|/static/.*|/api/workers/wheel", FREE),
    (_ANY, r"/sign-in|/(?:first|invite|reset)/[^/]+|/api/workers/pair", FREE),
    (_ANY, r"/api/workers(?:/.*)?|/blobs(?:/.*)?", BE_WORKER),
    (_ANY, r"/account(?:/.*)?|/sign-out", OWN),
    (_ANY, r"/people(?:/.*)?|/audit(?:/.*)?", ADMINISTER),
    (_CHANGING, r"/settings(?:/.*)?", ADMINISTER),
    (_ANY, r"/chat(?:/.*)?", TALK),
    (_READING, r".*", LOOK),
    (_CHANGING, r".*", DO),
)
_ROWS = tuple((kind, re.compile(pattern, re.DOTALL), right) for kind, pattern, right in TABLE)
_OF_A_JOB = re.compile(r"/api/(?:workers/jobs|train/status|train/update|train/dataset)/([^/]+)(?:/.*)?", re.DOTALL)


def right_for(method: str, path: str) -> str:
    """The name of a right, or FREE."""
    kind = _READING if method in SAFE else _CHANGING
    return next(right for of, pattern, right in _ROWS if of in (_ANY, kind) and pattern.fullmatch(path))


def open_to_job(path: str, job_id: str) -> bool:
    """Whether whoever has the token of a job may ask for that: report on it, read its data, send its result."""
    found = _OF_A_JOB.fullmatch(path)
    return path.startswith("/blobs/") or path == "/api/workers/claim" or (found is not None and found[1] == job_id)

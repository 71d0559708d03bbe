"""What each role, and each key, may do: one table, which the page of accounts and the guide show as it is."""

from __future__ import annotations

from dataclasses import dataclass

ADMIN, MEMBER, VIEWER = "admin", "member", "viewer"
ROLES = {
    ADMIN: "runs this studio",
    MEMBER: "trains, and sees what is their own",
    VIEWER: "looks at everything, and changes nothing",
}
READ, TRAIN, CHAT, WORK = "read", "train", "chat", "work"
SCOPES = {
    READ: "look, and download results",
    TRAIN: "that, and upload, train, cancel, delete",
    CHAT: "talk to models",
    WORK: "be a worker: do the jobs of everybody",
}
"""What a key may be for. No key manages accounts, keys or passwords."""


@dataclass(frozen=True)
class Right:
    """Something that one may do, and who may."""

    name: str
    words: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...] = ()


LOOK, LOOK_EVERYWHERE, DO, TALK = "look", "everywhere", "do", "talk"
BE_WORKER, OWN, ADMINISTER = "work", "own", "administer"
TABLE = (
    Right(LOOK, "see the models, and their own files, jobs and results", (ADMIN, MEMBER, VIEWER), (READ, TRAIN)),
    Right(LOOK_EVERYWHERE, "see those of everybody", (ADMIN, VIEWER), (READ, TRAIN, WORK)),
    Right(DO, "upload, install models, train, cancel and delete", (ADMIN, MEMBER), (TRAIN,)),
    Right(TALK, "talk to models and to their own results", (ADMIN, MEMBER), (CHAT,)),
    Right(BE_WORKER, "be a worker", (ADMIN,), (WORK,)),
    Right(OWN, "change their password, make and revoke their keys", (ADMIN, MEMBER, VIEWER)),
    Right(ADMINISTER, "manage accounts, limits and the audit log", (ADMIN,)),
)
"""Whoever may do something and sees everything may do it with everything: that is the administrator alone."""
_MAIN = {READ: LOOK, TRAIN: DO, CHAT: TALK, WORK: BE_WORKER}
"""What each kind of key is there for: whoever may not do that needs no such key."""
_BY_NAME = {right.name: right for right in TABLE}


def may(right: str, role: str, scope: str = "") -> bool:
    """Whether a role may do something; with a key, whether the key is for it, too."""
    row = _BY_NAME[right]
    return role in row.roles and (not scope or scope in row.scopes)


def scopes_of(role: str) -> dict[str, str]:
    """What keys of a role may be for."""
    return {name: words for name, words in SCOPES.items() if may(_MAIN[name], role)}

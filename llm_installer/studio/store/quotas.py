"""How much one person may have and do: settings, asked in the transaction that would go beyond them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from llm_installer.core.text import GIB, size
from llm_installer.studio.states import ENDED
from llm_installer.studio.store.account_tables import Account, Setting, Tries
from llm_installer.studio.store.acting import ACTING, Acting
from llm_installer.studio.store.opening import Store
from llm_installer.studio.store.refusals import Refused
from llm_installer.studio.store.tables import File, Job


class TooMuch(Refused):
    """A quota would be exceeded."""

    status = 429
    code = "quota_exceeded"


@dataclass(frozen=True)
class Quota:
    """A setting: how much a member may have or do; 0 is no limit. Administrators have none."""

    name: str
    usual: int
    words: str


QUOTAS = (
    Quota("stored_gib", 20, "GiB of files that a member may keep"),
    Quota("uploads_an_hour", 60, "files that a member may send within an hour"),
    Quota("jobs_at_once", 20, "jobs of a member that wait or run"),
    Quota("jobs_a_day", 100, "jobs that a member may create within a day"),
)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def values(session: Session) -> dict[str, int]:
    """What each quota is."""
    chosen = {row.name: row.value.get("value") for row in session.scalars(select(Setting))}
    found = {one.name: chosen.get(one.name) for one in QUOTAS}
    return {one.name: int(str(found[one.name])) if found[one.name] is not None else one.usual for one in QUOTAS}


def choose(session: Session, chosen: dict[str, int]) -> None:
    """Set quotas."""
    for one in QUOTAS:
        if one.name in chosen:
            session.merge(Setting(name=one.name, value={"value": max(0, chosen[one.name])}))


def refuse_file(store: Store, session: Session, count: int) -> None:
    """Raise TooMuch where whoever acts may not keep another file of so many bytes."""
    if not (acting := _bounded(session)):
        return
    most = values(session)
    stored = session.scalar(select(func.coalesce(func.sum(File.bytes), 0)).where(File.owner == acting.id)) or 0
    if most["stored_gib"] and stored + count > most["stored_gib"] * GIB:
        raise TooMuch(f"You may keep {size(most['stored_gib'] * GIB)} of files; delete some, and send it again")
    _within(store, session, f"uploads|{acting.id}", most["uploads_an_hour"], HOUR)


def refuse_job(store: Store, session: Session) -> None:
    """Raise TooMuch where whoever acts may not create another job."""
    if not (acting := _bounded(session)):
        return
    most = values(session)
    mine = select(func.count()).select_from(Job).where(Job.owner == acting.id, Job.state.not_in(ENDED))
    if most["jobs_at_once"] and (session.scalar(mine) or 0) >= most["jobs_at_once"]:
        raise TooMuch(f"You have {most['jobs_at_once']} jobs that wait or run, which is the most; cancel one, or wait")
    _within(store, session, f"jobs|{acting.id}", most["jobs_a_day"], DAY)


def _bounded(session: Session) -> Acting | None:
    """Whoever acts, where quotas hold for them; nobody else counts for them until the transaction ends."""
    acting = ACTING.get()
    if acting is None or not acting.bounded:
        return None
    session.scalar(select(Account).where(Account.id == acting.id).with_for_update())
    return acting


def _within(store: Store, session: Session, key: str, most: int, window: timedelta) -> None:
    """Count one more of something of which there may be so many in a stretch of time."""
    now, row = store.now(session), session.get(Tries, key, with_for_update=True)
    if row is None or now - row.at >= window:
        row = session.merge(Tries(key=key, count=0, at=now, wait_until=None))
    if most and row.count >= most:
        left = int((row.at + window - now).total_seconds() // 60) + 1
        raise TooMuch(f"That is as often as you may in {_said(window)}; try again in {left} minutes")
    row.count += 1


def _said(window: timedelta) -> str:
    return "an hour" if window == HOUR else "a day"

"""Tells what waits in the hub that the hub's database changed, so that nobody has to ask again and again; and lets what
is remembered of the groups be forgotten once they changed.

Guarantees: a change is told after its commit; one that waits costs nothing until then; a change that concerns many
reaches them one after the other, so that the hub goes on answering others. The hub alone writes its database while it
runs, so its own session sees every change that matters here.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from jupyterhub import orm
from sqlalchemy import event, inspect
from sqlalchemy.orm import Session

__all__ = ["HubNews", "Topic", "facts_topic", "sign_in_topics"]

Topic: TypeAlias = tuple[str, str]

SPREAD_S = 0.01  # between two that hear of one change: each asks the hub again, which takes about as long


def facts_topic(workshop_id: str) -> Topic:
    """News when a workshop's facts change."""
    return ("facts", workshop_id)


def sign_in_topics(user_id: int | None, client_id: str | None) -> tuple[Topic, ...]:
    """News when a token of this user, or one this OAuth client got for whomever, has ended."""
    return (("user", str(user_id)), ("client", str(client_id)))


class HubNews:
    """One for the hub: watches its session, wakes those who wait."""

    def __init__(self, groups_changed: Callable[[], None], spread_s: float = SPREAD_S) -> None:
        self._groups_changed = groups_changed
        self._spread_s = spread_s
        self._waiting: dict[Topic, set[asyncio.Future[None]]] = {}
        self._uncommitted: set[Topic] = set()
        self._told_times: Counter[Topic] = Counter()
        self._groups_flushed = False
        self._closed = False

    def watch(self, session: Session) -> None:
        """From now on what `session` commits is news."""
        event.listen(session, "before_flush", self._note)
        event.listen(session, "after_commit", self._tell)
        event.listen(session, "after_rollback", self._undo)
        event.listen(session, "after_flush_postexec", lambda *_: self._told_groups())

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return len({future for futures in self._waiting.values() for future in futures})

    @property
    def closed(self) -> bool:
        """Whether the hub ends."""
        return self._closed

    def times(self, topics: Iterable[Topic]) -> int:
        """How often there was news of `topics` since the hub's start: a token that was made and ended between two
        looks leaves no other trace."""
        return sum(self._told_times[topic] for topic in topics)

    async def wait(self, topics: Iterable[Topic], within_s: float, unless: asyncio.Future[None]) -> None:
        """Until there may be news of `topics`, `within_s` have passed, `unless` is done, or the hub ends."""
        if self._closed or unless.done():
            return
        wanted = list(topics)
        heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for topic in wanted:
            self._waiting.setdefault(topic, set()).add(heard)
        try:
            await asyncio.wait([heard, unless], timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for topic in wanted:
                self._waiting[topic].discard(heard)
                if not self._waiting[topic]:
                    del self._waiting[topic]

    def close(self) -> None:
        """Let everybody go, and nobody wait any more."""
        self._closed = True
        for futures in self._waiting.values():
            for future in futures:
                _wake(future)

    def _undo(self, _: Session) -> None:
        self._uncommitted.clear()
        self._groups_changed()

    def _told_groups(self) -> None:
        if self._groups_flushed:
            self._groups_flushed = False
            self._groups_changed()

    def _note(self, session: Session, *_: Any) -> None:
        touched = (*session.new, *session.dirty, *session.deleted)
        self._groups_flushed = self._groups_flushed or any(isinstance(one, orm.Group) for one in touched)
        for changed in [*session.new, *session.dirty]:
            if isinstance(changed, orm.Group) and inspect(changed).attrs.properties.history.has_changes():
                self._uncommitted.add(facts_topic(changed.name))
        for gone in session.deleted:
            if isinstance(gone, orm.APIToken):
                self._uncommitted.update(sign_in_topics(gone.user_id, gone.client_id))
            elif isinstance(gone, orm.Group):
                self._uncommitted.add(facts_topic(gone.name))

    def _tell(self, _: Session) -> None:
        topics, self._uncommitted = self._uncommitted, set()
        self._told_times.update(topics)
        concerned = {future for topic in topics for future in self._waiting.get(topic, ())}
        for place, future in enumerate(concerned):
            future.get_loop().call_later(place * self._spread_s, _wake, future)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)

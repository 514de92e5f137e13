"""Workshops as the hub sees them: Hub groups with facts in their properties.

Nothing else of a workshop is known here, so that seats of running workshops start and stop while the workshops service
and its database are away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from jupyterhub import orm
from pydantic import ValidationError
from sqlalchemy.orm import Session
from tornado.log import app_log

from orchestra_hub.ids import account_key, is_workshop_id, server_name
from orchestra_hub.lifecycle import effective_state, may_start_seat
from orchestra_hub.workshop import HUB_PROPERTY, Account, Role, State, WorkshopFacts

__all__ = ["HubWorkshops", "MemberOf", "account_of", "facts_in", "is_workshop_group"]

_REMEMBERED = 20_000  # names of servers


def is_workshop_group(group: orm.Group) -> bool:
    """Whether a Hub group stands for a workshop, readable facts or not."""
    return isinstance(group.properties, dict) and HUB_PROPERTY in group.properties


def facts_in(group: orm.Group) -> WorkshopFacts | None:
    """The workshop's facts in a group's properties; None (and a log line) when somebody damaged them.

    Another workshop's facts are damage too: whoever is in this group has no place in that workshop.
    """
    if not is_workshop_group(group):
        return None
    try:
        facts = WorkshopFacts.model_validate(group.properties[HUB_PROPERTY])
    except ValidationError as error:
        app_log.error("workshop=%s has unreadable facts in its Hub group: %s", group.name, error.errors()[0]["msg"])
        return None
    if facts.id != group.name:
        app_log.error("workshop=%s has the facts of %s in its Hub group", group.name, facts.id)
        return None
    return facts


def account_of(orm_user: orm.User) -> Account:
    """The account behind a hub user, told apart from earlier ones of the same name."""
    return Account(name=orm_user.name, key=account_key(orm_user.name, orm_user.created))


@dataclass(frozen=True)
class MemberOf:
    """A workshop and what one user is in it; `role` is None for somebody who isn't enrolled."""

    facts: WorkshopFacts
    role: Role | None

    def state(self, now: datetime) -> State:
        """The state that holds at `now`."""
        return effective_state(self.facts, now)

    def refusal(self, now: datetime) -> str | None:
        """Why the user may not start a seat at `now`, as a sentence; None when they may."""
        return may_start_seat(self.facts, self.role, now)


class HubWorkshops:
    """Reads workshops from the hub's own database. `db_factory` gives the hub's session.

    Which server is whose is remembered, as every list of servers asks it for each: whoever changes groups in the
    database calls `forget` (the hub's `HubNews` does, for whatever the hub's session writes).
    """

    def __init__(self, db_factory: Callable[[], Session]) -> None:
        self._db_factory = db_factory
        self._by_server: dict[str, str] = {}
        self._known: dict[str, str | None] = {}

    def forget(self) -> None:
        """The groups changed."""
        self._known.clear()

    def facts(self, workshop_id: str) -> WorkshopFacts | None:
        """The facts of a workshop; None when there is no such group."""
        group = orm.Group.find(self._db_factory(), name=workshop_id)
        return None if group is None else facts_in(group)

    def is_damaged(self, workshop_id: str) -> bool:
        """Whether there is a workshop's group whose facts can't be read; the reconciler writes them again."""
        group = orm.Group.find(self._db_factory(), name=workshop_id) if is_workshop_id(workshop_id) else None
        return group is not None and facts_in(group) is None

    def member(self, orm_user: orm.User, workshop_id: str) -> MemberOf | None:
        """The workshop and the user's role in it; None when there is no such workshop."""
        group = orm.Group.find(self._db_factory(), name=workshop_id)
        facts = None if group is None else facts_in(group)
        if group is None or facts is None:
            return None
        return MemberOf(facts, _role(orm_user, group, facts))

    def of_user(self, orm_user: orm.User) -> Iterator[MemberOf]:
        """All workshops a user is enrolled in, latest start first."""
        found = []
        for group in orm_user.groups:
            facts = facts_in(group)
            if facts is not None:
                found.append(MemberOf(facts, _role(orm_user, group, facts)))
        yield from sorted(found, key=lambda m: m.facts.opens_at, reverse=True)

    def id_of_server(self, name: str) -> str | None:
        """The workshop whose seats' servers are called `name`; None for any other server.

        A slug can't be turned back into an id, so ids are kept by slug and looked up anew on a miss.
        """
        if not name:
            return None
        if name not in self._known:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[name] = self._look_up(name)
        return self._known[name]

    def _look_up(self, name: str) -> str | None:
        workshop_id = self._by_server.get(name)
        if workshop_id is None or orm.Group.find(self._db_factory(), name=workshop_id) is None:
            self._by_server = {server_name(found): found for (found,) in self._db_factory().query(orm.Group.name)}
            workshop_id = self._by_server.get(name)
        if workshop_id is None:
            return None
        group = orm.Group.find(self._db_factory(), name=workshop_id)
        return workshop_id if group is not None and is_workshop_group(group) else None


def _role(orm_user: orm.User, group: orm.Group, facts: WorkshopFacts) -> Role | None:
    if group not in orm_user.groups:
        return None
    return Role.INSTRUCTOR if account_of(orm_user).key in facts.instructors else Role.LEARNER

"""Who may do what, as one table of action and asker. Pure.

The table says who may ask. Whether it can be done at that moment (states, capacity, codes) is for `lifecycle` and
the store to say; whether an account is who it says, for the hub.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType

from orchestra_hub.workshop import Account, Enrolment, Role, Workshop

__all__ = ["TABLE", "Action", "Asker", "allowed", "askers_of"]


class Asker(StrEnum):
    """What a signed-in person is to a workshop; one person is often several."""

    OPERATOR = "operator"  # a Hub admin
    CREATOR = "creator"  # in the Hub group whose members may make workshops
    OWNER = "owner"  # created the workshop
    INSTRUCTOR = "instructor"
    LEARNER = "learner"
    VISITOR = "visitor"  # signed in, nothing more


class Action(StrEnum):
    """What can be asked for. `own` is about the asker's own seat or place, `any` about another person's."""

    SEE_TEMPLATES = "see-templates"
    CREATE = "create"
    SEE = "see"  # what is public: title, teacher, dates, state
    SEE_JOIN_CODE = "see-join-code"
    EXTEND = "extend"
    END = "end"
    CANCEL = "cancel"
    SET_SEATS = "set-seats"
    MEND = "mend"  # put right what somebody damaged, or end it as it is
    JOIN = "join"
    LEAVE = "leave"
    SEE_ENROLMENTS = "see-enrolments"
    ENROL = "enrol"  # put others on the roster, invite
    REMOVE_ENROLMENT = "remove-enrolment"
    SET_ROLE = "set-role"
    SEE_SEATS = "see-seats"
    START_OWN_SEAT = "start-own-seat"
    STOP_OWN_SEAT = "stop-own-seat"
    START_ANY_SEAT = "start-any-seat"
    STOP_ANY_SEAT = "stop-any-seat"
    EXPORT_OWN = "export-own"
    EXPORT_ANY = "export-any"
    SEE_EVENTS = "see-events"
    SEE_TROUBLE = "see-trouble"


_EVERYBODY = frozenset(Asker)
_ENROLLED = frozenset({Asker.INSTRUCTOR, Asker.LEARNER})
_RUNNING_IT = frozenset({Asker.OPERATOR, Asker.OWNER, Asker.INSTRUCTOR})
_ANSWERING_FOR_IT = frozenset({Asker.OPERATOR, Asker.OWNER})

TABLE: Mapping[Action, frozenset[Asker]] = MappingProxyType(
    {
        Action.SEE_TEMPLATES: _EVERYBODY,
        Action.CREATE: frozenset({Asker.OPERATOR, Asker.CREATOR}),
        Action.SEE: _EVERYBODY,
        Action.SEE_JOIN_CODE: _RUNNING_IT,
        Action.EXTEND: _RUNNING_IT,
        Action.END: _RUNNING_IT,
        Action.CANCEL: _ANSWERING_FOR_IT,
        Action.SET_SEATS: _ANSWERING_FOR_IT,
        Action.MEND: _ANSWERING_FOR_IT,
        Action.JOIN: _EVERYBODY,
        Action.LEAVE: _ENROLLED,
        Action.SEE_ENROLMENTS: _RUNNING_IT,
        Action.ENROL: _RUNNING_IT,
        Action.REMOVE_ENROLMENT: _RUNNING_IT,
        Action.SET_ROLE: _ANSWERING_FOR_IT,
        Action.SEE_SEATS: _RUNNING_IT,
        Action.START_OWN_SEAT: _ENROLLED,
        Action.STOP_OWN_SEAT: _ENROLLED,
        Action.START_ANY_SEAT: _RUNNING_IT,
        Action.STOP_ANY_SEAT: _RUNNING_IT,
        Action.EXPORT_OWN: _ENROLLED,
        Action.EXPORT_ANY: _ANSWERING_FOR_IT,
        Action.SEE_EVENTS: _RUNNING_IT,
        Action.SEE_TROUBLE: _RUNNING_IT,
    }
)
"""Every action, with who may ask for it."""


def allowed(action: Action, askers: Iterable[Asker]) -> bool:
    """Whether somebody who is all of `askers` may ask for `action`."""
    return not TABLE[action].isdisjoint(askers)


def askers_of(
    account: Account,
    *,
    admin: bool,
    creator: bool = False,
    workshop: Workshop | None = None,
    enrolment: Enrolment | None = None,
) -> frozenset[Asker]:
    """What `account` is to `workshop`. A name alone makes nobody owner or enrolled: the account's key must fit."""
    askers = {Asker.VISITOR}
    if admin:
        askers.add(Asker.OPERATOR)
    if creator:
        askers.add(Asker.CREATOR)
    if workshop is not None and workshop.owner == account.name and workshop.owner_key == account.key:
        askers.add(Asker.OWNER)
    if enrolment is not None and workshop is not None and enrolment.workshop_id == workshop.id:
        theirs = enrolment.user_name == account.name and enrolment.account_key == account.key
        if theirs:
            askers.add(Asker.INSTRUCTOR if enrolment.role is Role.INSTRUCTOR else Asker.LEARNER)
    return frozenset(askers)

"""Who is in a workshop: joining, leaving, roles, invitations.

Guarantees:

- Never more learners than seats, however many join at once: whoever joins holds the workshop's row.
- A place belongs to an account. The same name on another account inherits nothing: the old place is removed and the
  new account judged as anybody else.
- An invitation works once. Codes and tokens are compared in constant time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from orchestra_hub.errors import InvalidInput, NotAllowed, NotFound, OrchestraError, WorkshopFull, WrongState
from orchestra_hub.lifecycle import may_join
from orchestra_hub.store.base import (
    StorePart,
    add_to_count,
    ask_for_repair,
    check_fence,
    learners_in,
    locked,
    must_exist,
    note,
    to_enrolment,
)
from orchestra_hub.store.codes import invitation_id_of, new_invitation_token, same_code, token_fits, token_hash
from orchestra_hub.store.models import EnrolmentRow, InvitationRow, WorkshopRow
from orchestra_hub.store.reading import to_workshops
from orchestra_hub.workshop import Account, Enrolment, Invitation, JoinPolicy, Role

__all__ = ["Enrolments"]

_LABEL_MAX = 200


@dataclass(frozen=True)
class _Wish:
    """What somebody who wants in brings along."""

    account: Account
    role: Role
    code: str | None
    invitation: str | None
    by_roster: bool
    actor: str


class Enrolments(StorePart):
    """Places in workshops."""

    def enrol(
        self,
        workshop_id: str,
        account: Account,
        role: Role = Role.LEARNER,
        *,
        code: str | None = None,
        invitation: str | None = None,
        by_roster: bool = False,
        actor: str,
    ) -> Enrolment:
        """The account's place, new or as it was: an account that is in stays as it is, whatever else is given.

        `by_roster`: somebody who may has put it on the roster, in any role. Otherwise people join by themselves, as
        learners, by the workshop's join policy, or with an `invitation` (its token) in the role that has. One that
        makes an enrolled learner an instructor is used; one that changes nothing isn't.

        Raises `NotAllowed` (wrong code or token, not on the roster), `WorkshopFull`, `WrongState` once it is over.
        """
        wish = _Wish(account, role, code, invitation, by_roster, actor)
        with self._database.write() as session:
            row = locked(session, workshop_id)
            now = self._now()
            place = session.get(EnrolmentRow, (workshop_id, account.name))
            if place is not None and place.account_key != account.key:
                _remove(session, row, place, "replaced", "system", now)
                place = None
            result = _joined(session, row, place, wish, now)
        if isinstance(result, OrchestraError):
            raise result  # only now: that the old place is gone stays written
        return result

    def remove_enrolment(
        self,
        workshop_id: str,
        user_name: str,
        actor: str,
        *,
        account_key: str | None = None,
        fence: int | None = None,
    ) -> None:
        """The place is gone. Raises `NotFound` if there is none, or none of the account `account_key` if given;
        `LeaseLost` when the reconciler, which gives its `fence`, no longer leads."""
        with self._database.write() as session:
            check_fence(session, fence)
            row = locked(session, workshop_id)
            place = _place(session, workshop_id, user_name, account_key)
            _remove(session, row, place, "left", actor, self._now())

    def set_role(self, workshop_id: str, user_name: str, role: Role, actor: str) -> Enrolment:
        """The place with that role. Raises `NotFound`, and `WorkshopFull` for a learner too many."""
        with self._database.write() as session:
            row = locked(session, workshop_id)
            place = _place(session, workshop_id, user_name)
            if place.role is not role:
                if role is Role.LEARNER and learners_in(session, workshop_id) >= row.seats:
                    raise _full(row)
                place.role = role
                now = self._now()
                detail = {"role": role.value}
                note(session, workshop_id, now, "role-set", actor, subject=place.account_key, detail=detail)
                ask_for_repair(session, row, now)
            return to_enrolment(place)

    def enrolments(self, workshop_id: str) -> list[Enrolment]:
        """Everybody who is in, by name; nobody once it is purged. Raises `NotFound`."""
        wanted = select(EnrolmentRow).where(EnrolmentRow.workshop_id == workshop_id).order_by(EnrolmentRow.user_name)
        with self._database.read() as session:
            must_exist(session, workshop_id)
            return [to_enrolment(row) for row in session.scalars(wanted)]

    def enrolment(self, workshop_id: str, user_name: str) -> Enrolment | None:
        """The place under that name, if any. It belongs to its `account_key`: compare that with the asker's."""
        with self._database.read() as session:
            row = session.get(EnrolmentRow, (workshop_id, user_name))
            return None if row is None else to_enrolment(row)

    def enrolments_of(self, user_name: str) -> list[Enrolment]:
        """Every place under that name, newest first. Each belongs to its `account_key`: compare that too."""
        wanted = select(EnrolmentRow).where(EnrolmentRow.user_name == user_name)
        with self._database.read() as session:
            ordered = wanted.order_by(EnrolmentRow.joined_at.desc(), EnrolmentRow.workshop_id)
            return [to_enrolment(row) for row in session.scalars(ordered)]

    def mark_in_hub(
        self,
        workshop_id: str,
        user_name: str,
        in_hub: bool,
        *,
        account_key: str | None = None,
        fence: int | None = None,
    ) -> None:
        """Notes whether the hub's group has the person; nothing happens if they have left meanwhile.

        With `account_key`, nothing happens either if the place is another account's by now. Raises `LeaseLost` when
        the reconciler, which gives its `fence`, no longer leads.
        """
        with self._database.write() as session:
            check_fence(session, fence)
            place = session.get(EnrolmentRow, (workshop_id, user_name), with_for_update=True)
            if place is not None and account_key in (None, place.account_key):
                place.in_hub = in_hub

    def invite(self, workshop_id: str, label: str, role: Role, actor: str) -> Invitation:
        """A new invitation, with the token that is never shown again. `label` says to instructors who it is for."""
        label = label.strip()
        if not label or len(label) > _LABEL_MAX:
            raise InvalidInput(f"An invitation needs a label of 1 to {_LABEL_MAX} characters.", field="/label")
        with self._database.write() as session:
            row = locked(session, workshop_id)
            now = self._now()
            if (why_not := may_join(to_workshops(session, [row])[0], now)) is not None:
                raise WrongState(f"{why_not} Nobody can be invited any more.")
            invitation = InvitationRow(
                workshop_id=workshop_id, label=label, role=role, token_hash="", created_at=now, used_at=None
            )
            session.add(invitation)
            session.flush()  # gives it its id, which the token names
            token = new_invitation_token(invitation.id)
            invitation.token_hash = token_hash(token)
            note(session, workshop_id, now, "invited", actor, detail={"invitation": invitation.id, "role": role.value})
            return _to_invitation(invitation, token)

    def invitations(self, workshop_id: str) -> list[Invitation]:
        """Every invitation, used or not, oldest first, without tokens. Raises `NotFound`."""
        wanted = select(InvitationRow).where(InvitationRow.workshop_id == workshop_id).order_by(InvitationRow.id)
        with self._database.read() as session:
            must_exist(session, workshop_id)
            return [_to_invitation(row) for row in session.scalars(wanted)]


def _joined(
    session: Session, row: WorkshopRow, place: EnrolmentRow | None, wish: _Wish, now: datetime
) -> Enrolment | OrchestraError:
    """The place, or the error to raise; writes nothing when it answers an error."""
    if (why_not := may_join(to_workshops(session, [row])[0], now)) is not None:
        return WrongState(f"{why_not} Nobody can join it any more.")
    invited = None if wish.by_roster else _usable_invitation(session, row.id, wish.invitation)
    role = wish.role if invited is None else invited.role
    if place is not None and (invited is None or role is Role.LEARNER or place.role is Role.INSTRUCTOR):
        return to_enrolment(place)
    if invited is None and not wish.by_roster and (refusal := _refusal(row, wish)) is not None:
        return refusal
    if role is Role.LEARNER and learners_in(session, row.id) >= row.seats:
        return _full(row)
    if place is None:
        name, key = wish.account.name, wish.account.key
        place = EnrolmentRow(
            workshop_id=row.id, user_name=name, account_key=key, role=role, joined_at=now, in_hub=False
        )
        session.add(place)
        add_to_count(session, row.id, "joined")
    place.role = role
    detail: dict[str, Any] = {"role": role.value, "by": "roster" if wish.by_roster else row.join_policy.value}
    if invited is not None:
        invited.used_at = now
        detail |= {"by": "invitation", "invitation": invited.id}
    note(session, row.id, now, "enrolled", wish.actor, subject=wish.account.key, detail=detail)
    ask_for_repair(session, row, now)
    return to_enrolment(place)


def _usable_invitation(session: Session, workshop_id: str, token: str | None) -> InvitationRow | None:
    number = None if token is None else invitation_id_of(token)
    if token is None or number is None:
        return None
    found = session.get(InvitationRow, number)
    if found is None or not token_fits(token, found.token_hash):
        return None
    return found if found.workshop_id == workshop_id and found.used_at is None else None


def _refusal(row: WorkshopRow, wish: _Wish) -> NotAllowed | None:
    """Why somebody may not join by themselves, if so."""
    if wish.role is not Role.LEARNER:
        return NotAllowed("People join as learners. An instructor of the workshop can give another role.")
    match row.join_policy:
        case JoinPolicy.OPEN:
            return None
        case JoinPolicy.CODE if wish.code and row.join_code and same_code(wish.code, row.join_code):
            return None
        case _ if wish.invitation is not None:
            return NotAllowed("This invitation has been used or is not for this workshop. Ask for a new one.")
        case JoinPolicy.CODE if wish.code:
            return NotAllowed("The code is wrong. Check it, or ask your instructor for the join link.")
        case JoinPolicy.CODE:
            return NotAllowed("Joining this workshop takes a code. Ask your instructor for it or for the join link.")
        case _:
            return NotAllowed("You are not on this workshop's roster. Ask your instructor to add you.")


def _remove(session: Session, row: WorkshopRow, place: EnrolmentRow, kind: str, actor: str, now: datetime) -> None:
    note(session, row.id, now, kind, actor, subject=place.account_key, detail={"role": place.role.value})
    add_to_count(session, row.id, "left")
    session.delete(place)
    session.flush()  # before a new place takes the name
    ask_for_repair(session, row, now)


def _place(session: Session, workshop_id: str, user_name: str, account_key: str | None = None) -> EnrolmentRow:
    place = session.get(EnrolmentRow, (workshop_id, user_name))
    if place is None or account_key not in (None, place.account_key):
        raise NotFound(f"Nobody called {user_name[:80]!r} is enrolled in {workshop_id}.")
    return place


def _full(row: WorkshopRow) -> WorkshopFull:
    return WorkshopFull(f"{row.title} is full: all {row.seats} places are taken. Ask your instructor for more places.")


def _to_invitation(row: InvitationRow, token: str | None = None) -> Invitation:
    shown = {name: getattr(row, name) for name in Invitation.model_fields if name != "token"}
    return Invitation(**shown, token=token)

"""The table of permissions is whole, and a name alone gives nothing."""

from __future__ import annotations

import pytest

from orchestra_hub.permissions import TABLE, Action, Asker, allowed, askers_of
from orchestra_hub.workshop import Enrolment, Role
from tests.unit.workshops import NOON, a_workshop, account

RUNNING_IT = {Asker.OPERATOR, Asker.OWNER, Asker.INSTRUCTOR}


def _enrolment(name: str, role: Role, life: int = 1) -> Enrolment:
    return Enrolment(
        workshop_id=a_workshop().id,
        user_name=name,
        account_key=account(name, life).key,
        role=role,
        joined_at=NOON,
        in_hub=True,
    )


def test_every_action_is_in_the_table() -> None:
    assert set(TABLE) == set(Action)
    assert all(TABLE.values())


@pytest.mark.parametrize("action", Action)
def test_an_operator_may_do_whatever_isnt_about_a_place_of_ones_own(action: Action) -> None:
    own = {Action.LEAVE, Action.START_OWN_SEAT, Action.STOP_OWN_SEAT, Action.EXPORT_OWN}
    assert allowed(action, {Asker.OPERATOR}) is (action not in own)


def test_a_learner_may_do_only_this() -> None:
    mine = {action for action in Action if allowed(action, {Asker.LEARNER, Asker.VISITOR})}
    assert mine == {
        Action.SEE_TEMPLATES,
        Action.SEE,
        Action.JOIN,
        Action.LEAVE,
        Action.START_OWN_SEAT,
        Action.STOP_OWN_SEAT,
        Action.EXPORT_OWN,
    }


def test_a_visitor_may_look_and_join() -> None:
    assert {action for action in Action if allowed(action, {Asker.VISITOR})} == {
        Action.SEE_TEMPLATES,
        Action.SEE,
        Action.JOIN,
    }


def test_an_instructor_runs_the_workshop_but_doesnt_answer_for_it() -> None:
    mine = {action for action in Action if allowed(action, {Asker.INSTRUCTOR})}
    assert {Action.EXTEND, Action.END, Action.ENROL, Action.STOP_ANY_SEAT, Action.SEE_EVENTS} <= mine
    assert not {Action.CANCEL, Action.SET_ROLE, Action.SET_SEATS, Action.EXPORT_ANY, Action.CREATE} & mine


def test_nobody_at_all_may_do_nothing() -> None:
    assert not any(allowed(action, ()) for action in Action)


def test_the_owner_is_an_account_not_a_name() -> None:
    workshop = a_workshop()
    assert Asker.OWNER in askers_of(account("grace"), admin=False, workshop=workshop)
    assert askers_of(account("grace", life=2), admin=False, workshop=workshop) == {Asker.VISITOR}
    ownerless = workshop.model_copy(update={"owner": None, "owner_key": None})
    assert askers_of(account("grace"), admin=False, workshop=ownerless) == {Asker.VISITOR}


@pytest.mark.parametrize(("role", "asker"), [(Role.LEARNER, Asker.LEARNER), (Role.INSTRUCTOR, Asker.INSTRUCTOR)])
def test_a_place_is_an_accounts_not_a_names(role: Role, asker: Asker) -> None:
    place = _enrolment("ada", role)
    workshop = a_workshop()
    assert asker in askers_of(account("ada"), admin=False, workshop=workshop, enrolment=place)
    assert askers_of(account("ada", 2), admin=False, workshop=workshop, enrolment=place) == {Asker.VISITOR}
    assert askers_of(account("bob"), admin=False, workshop=workshop, enrolment=place) == {Asker.VISITOR}
    elsewhere = workshop.model_copy(update={"id": "another-may-abcdef"})
    assert askers_of(account("ada"), admin=False, workshop=elsewhere, enrolment=place) == {Asker.VISITOR}


def test_an_admin_is_an_operator_besides() -> None:
    assert askers_of(account("grace"), admin=True, workshop=a_workshop()) == {
        Asker.OPERATOR,
        Asker.OWNER,
        Asker.VISITOR,
    }

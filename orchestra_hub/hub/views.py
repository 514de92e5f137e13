"""What a workshop's pages say, decided from its facts and the time. Pure: no request, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from orchestra_hub.hub.line import Place, told
from orchestra_hub.lifecycle import effective_state
from orchestra_hub.workshop import JoinPolicy, Role, State, WorkshopFacts

__all__ = ["PublicView", "SeatView", "damaged_view", "duration_in_words", "public_view", "seat_view", "unknown_view"]


@dataclass(frozen=True)
class PublicView:
    """A workshop's page for somebody nobody knows. `status` is the HTTP status; `button` None when nothing is next."""

    status: int
    headline: str
    text: str
    badge: str
    tone: str  # a Bootstrap colour: what the badge looks like
    button: str | None
    next_at: datetime | None  # what is counted down to
    next_label: str


@dataclass(frozen=True)
class SeatView:
    """A seat as its owner sees it: `state` is none, waiting, starting, ready, stopping or failed; `place` says where a
    waiting one is in the line."""

    state: str
    may_start: bool
    refusal: str | None
    failure: str | None
    place: str | None = None


def duration_in_words(seconds: float) -> str:
    """A length of time for people: `1 h 5 min`, `3 days`, `less than a minute`."""
    minutes = int(seconds // 60)
    if minutes < 1:
        return "less than a minute"
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} days"


_HOW = {
    JoinPolicy.OPEN: "Sign in, and a place is yours as long as there is one.",
    JoinPolicy.CODE: "Sign in and have the workshop's code at hand.",
    JoinPolicy.ROSTER: "Sign in with the account your instructor has put on the list.",
}


def public_view(facts: WorkshopFacts, now: datetime) -> PublicView:
    """The page of a workshop at `now`."""
    state = effective_state(facts, now)
    how = _HOW[facts.join_policy]
    if state in (State.SCHEDULED, State.PREPARING):
        if now >= facts.opens_at:
            return PublicView(
                503, "Being prepared", "It is about to open; this page will tell. " + how, "opening", "info",
                "Take your place", facts.expires_at, "ends",
            )  # fmt: skip
        return PublicView(
            403, "Not open yet", "You can already take your place; the notebook starts once it is open. " + how,
            "not open yet", "info", "Take your place", facts.opens_at, "opens",
        )  # fmt: skip
    if state is State.OPEN:
        return PublicView(200, "", how, "open", "success", "Go to my notebook", facts.expires_at, "ends")
    if state is State.CLOSING:
        return PublicView(
            200, "Ending soon", "Save your work. " + how, "ending soon", "warning", "Go to my notebook",
            facts.expires_at, "ends",
        )  # fmt: skip
    if state is State.CANCELLED:
        return PublicView(
            410, "Cancelled", "This workshop was cancelled by its instructor. Files that were made in it can be "
            "fetched until they are removed.", "cancelled", "secondary", "Fetch my files", facts.purge_at,
            "files are removed",
        )  # fmt: skip
    if state is State.EXPIRED:
        return PublicView(
            410, "Over", "This workshop is over and its notebooks have stopped. Everybody who took part can fetch "
            "their files until they are removed.", "over", "secondary", "Fetch my files", facts.purge_at,
            "files are removed",
        )  # fmt: skip
    return PublicView(
        410, "Gone", "This workshop is over and its data has been removed.", "gone", "secondary", None, None, ""
    )


def damaged_view() -> PublicView:
    """For a workshop whose Hub group somebody damaged."""
    return PublicView(
        503, "Being put right", "What the hub knows of this workshop was damaged. The platform puts that right by "
        "itself within a few minutes, and nobody's files are touched: try again then. If it stays so, tell your "
        "instructor or an operator.", "being put right", "warning", None, None, "",
    )  # fmt: skip


def unknown_view() -> PublicView:
    """For an address no workshop has."""
    return PublicView(
        404, "No such workshop", "There is no workshop at this address. Check it letter by letter, or ask your "
        "instructor for the link; a workshop's page also goes when its data has been removed.", "unknown", "secondary",
        None, None, "",
    )  # fmt: skip


def seat_view(
    facts: WorkshopFacts,
    role: Role | None,
    *,
    pending: str | None,
    ready: bool,
    failure: str | None,
    refusal: str | None,
    place: Place | None = None,
) -> SeatView:
    """What the owner of a seat sees of it."""
    if ready:
        state = "ready"
    elif place is not None:
        return SeatView("waiting", False, refusal, None, told(place))
    elif pending == "stop":
        state = "stopping"
    elif pending:
        state = "starting"
    elif failure:
        state = "failed"
    else:
        state = "none"
    return SeatView(state, role is not None and refusal is None, refusal, failure)

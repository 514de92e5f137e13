"""The pages: my workshops, joining, running one, files. They ask what the API asks, with the same permissions."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import ValidationError
from tornado.httputil import url_concat
from tornado.web import RequestHandler

from orchestra_hub.api_models import Change, End, Enrol, Extend, Join, WorkshopView
from orchestra_hub.errors import (
    Conflict,
    InvalidInput,
    NotAllowed,
    NotFound,
    OrchestraError,
    StaleVersion,
    TooManyAttempts,
    WorkshopFull,
    WrongState,
)
from orchestra_hub.hub.views import PublicView, public_view
from orchestra_hub.lifecycle import effective_state, may_join
from orchestra_hub.permissions import Action
from orchestra_hub.web import static_folder
from orchestra_hub.workshop import JoinPolicy, Role, State, facts_of
from orchestra_services.workshops import actions, export, people
from orchestra_services.workshops.context import Standing
from orchestra_services.workshops.layout import Callback, Page, Site, Static
from orchestra_services.workshops.problems import WrongMethod, kind_of
from orchestra_services.workshops.views import Links, counted

__all__ = ["page_handlers"]

_SHOWN = 200
_CODE_MAX = 200


def _public(standing: Standing, page: Page) -> PublicView:
    """How the workshop stands, in the words of its own page."""
    return public_view(facts_of(standing.workshop, []), page.context.now)


class MyWorkshops(Page):
    """`/`: what the person runs and learns in; for operators everything else too."""

    async def get(self) -> None:
        """The lists, newest first."""
        find = {"states": None, "after": None, "limit": _SHOWN}
        mine = await actions.workshops_of(self.context, self.asker, everything=False, **find)  # type: ignore[arg-type]  # one dict, three types
        others: list[Standing] = []
        damaged = {damage.id: damage.sentence for damage in mine.damaged}
        if self.asker.operator:
            known = {standing.id for standing in mine}
            found = await actions.workshops_of(self.context, self.asker, everything=True, **find)  # type: ignore[arg-type]  # as above
            others = [standing for standing in found if standing.id not in known]
            damaged |= {damage.id: damage.sentence for damage in found.damaged}
        runs = [standing for standing in mine if standing.may(Action.EXTEND) and standing.role is not Role.LEARNER]
        learns = [standing for standing in mine if standing not in runs]
        self.show(
            "mine.html",
            groups=[
                ("Workshops I run", self._cards(runs)),
                ("Workshops I learn in", self._cards(learns)),
                ("All other workshops", self._cards(others)),
            ],
            may_create=actions.may_create(self.asker),
            damaged=damaged,
        )

    def _cards(self, standings: list[Standing]) -> list[dict[str, Any]]:
        return [
            {
                "workshop": standing.workshop,
                "view": _public(standing, self),
                "role": standing.role,
                "run": f"{self.site.prefix}{standing.id}" if standing.may(Action.EXTEND) else None,
                "launch": f"/hub/workshops/{standing.id}" if standing.role is not None else None,
            }
            for standing in standings
        ]


class JoinPage(Page):
    """`/join/{id}`: take a place. Looking never joins; the button does."""

    async def get(self, workshop_id: str) -> None:
        """The button, the form for the code, or why it isn't possible."""
        standing = await self.standing(workshop_id)
        if standing.enrolment is not None:
            await self._lead_on(standing)
            return
        code, invitation = self._given("code"), self._given("invitation")
        refusal = await self._refusal(standing, invited=bool(invitation))
        if refusal is not None:
            self._refuse(standing, refusal)
            return
        self._ask(standing, code, invitation)

    async def post(self, workshop_id: str) -> None:
        """Join, then on to the workshop."""
        standing = await self.standing(workshop_id)
        code = self.get_body_argument("code", "").strip()
        invitation = self.get_body_argument("invitation", "").strip()
        try:
            wanted = Join(code=code or None, invitation=invitation or None)
            await people.join(self.context, standing, wanted, self.request.remote_ip or "")
        except ValidationError:
            self._again(standing, NotAllowed("The code is wrong. Check it, or ask your instructor for the join link."))
        except TooManyAttempts as error:
            self.set_header("Retry-After", str(error.retry_after_s))
            self._again(standing, error, status=429)
        except (NotAllowed, Conflict) as error:
            if isinstance(error, NotAllowed) and standing.workshop.join_policy is JoinPolicy.CODE and not invitation:
                self._again(standing, error)
            else:
                self._refuse(standing, error)
        else:
            await self._lead_on(await self.standing(workshop_id))

    def _given(self, name: str) -> str:
        return self.get_query_argument(name, "").strip()[:_CODE_MAX]

    async def _refusal(self, standing: Standing, *, invited: bool) -> OrchestraError | None:
        """Why the person can't join, as far as can be told before they try."""
        workshop = standing.workshop
        over = may_join(workshop, self.context.now)
        if over is not None:
            return WrongState(over)
        if invited:
            return None
        if workshop.join_policy is JoinPolicy.ROSTER:
            return NotAllowed("You are not on this workshop's roster.")
        places = counted(await asyncio.to_thread(self.context.store.enrolments, standing.id))
        return WorkshopFull("full") if places.learners >= workshop.seats else None

    def _ask(self, standing: Standing, code: str, invitation: str, *, status: int = 200, problem: str = "") -> None:
        wants_code = standing.workshop.join_policy is JoinPolicy.CODE and not invitation and (not code or bool(problem))
        self.show(
            "join.html", status, workshop=standing.workshop, view=_public(standing, self), code=code,
            invitation=invitation, wants_code=wants_code, problem=problem, xsrf=self.xsrf,
            action=f"{self.site.prefix}join/{standing.id}",
        )  # fmt: skip

    def _again(self, standing: Standing, error: OrchestraError, *, status: int = 403) -> None:
        code, invitation = self.get_body_argument("code", ""), self.get_body_argument("invitation", "")
        self._ask(standing, code[:_CODE_MAX], invitation[:_CODE_MAX], status=status, problem=str(error))

    def _refuse(self, standing: Standing, error: OrchestraError) -> None:
        workshop = standing.workshop
        if isinstance(error, WrongState):
            state = effective_state(workshop, self.context.now)
            status, headline = 410, "Cancelled" if state is State.CANCELLED else "This workshop is over"
            text = "Nobody can join it any more. Ask your instructor whether it will be given again."
        elif isinstance(error, WorkshopFull):
            status, headline = 409, "This workshop is full"
            taken = "The only place is" if workshop.seats == 1 else f"All {workshop.seats} places are"
            text = f"{taken} taken. Ask your instructor for more places; if somebody leaves, this link works again."
        elif workshop.join_policy is JoinPolicy.ROSTER and not self.get_body_argument("invitation", ""):
            status, headline = 403, "You are not enrolled"
            text = (
                f"Places in this workshop are given by its instructors. Tell yours that you signed in as "
                f"“{self.asker.name}”; once you are on the roster, this link works."
            )
        else:
            status, headline, text = kind_of(error).status, "You can't join with this link", str(error)
        self.show(
            "join_refused.html", status, workshop=workshop, view=_public(standing, self), headline=headline, text=text,
            again=self.request.path if status in (403, 409) else None,
        )  # fmt: skip

    async def _lead_on(self, standing: Standing) -> None:
        """To the workshop, once the hub knows the place; it sends people back here until then."""
        if standing.enrolment is None:
            raise NotFound("The place is gone.")
        place = standing.enrolment
        over = effective_state(standing.workshop, self.context.now) in (State.PURGED,)
        if not over:
            place = await people.known_to_hub(self.context, place, sure=True)
        if place.in_hub:
            self.redirect(f"/hub/workshops/{standing.id}", status=303 if self.request.method == "POST" else 302)
            return
        self.set_header("Retry-After", "5")
        self.show("join_waiting.html", 503, workshop=standing.workshop, view=_public(standing, self),
                  again=self.request.path)  # fmt: skip


class _Running(Page):
    """Shows the page of those who run a workshop."""

    async def show_run(self, standing: Standing, *, status: int = 200, done: str = "", problem: str = "") -> None:
        shown: WorkshopView = await actions.seen(self.context, standing)
        living = may_join(standing.workshop, self.context.now) is None
        self.show(
            "run.html", status, shown=shown, workshop=standing.workshop, view=_public(standing, self), done=done,
            problem=problem, xsrf=self.xsrf, page=f"{self.site.prefix}{standing.id}", living=living,
            begun=self.context.now > standing.workshop.opens_at,
            may_cancel=living and standing.may(Action.CANCEL),
            may_teach=living and standing.may(Action.SET_ROLE) and standing.role is not Role.INSTRUCTOR,
            has_files=standing.may(Action.EXPORT_OWN) and shown.state is not State.PURGED,
            join_link=shown.join_url or Links(self.context.hosts, standing.id).public,
        )  # fmt: skip


class Run(_Running):
    """`/{id}`: the page of those who run a workshop."""

    async def get(self, workshop_id: str) -> None:
        """How it stands and what can be done; learners are led to their own page."""
        standing = await self.standing(workshop_id)
        if not standing.may(Action.EXTEND) and standing.may(Action.START_OWN_SEAT):
            self.redirect(f"/hub/workshops/{workshop_id}")
            return
        standing.demand(Action.EXTEND)
        await self.show_run(standing, done=_DONE.get(self.get_query_argument("done", ""), ""))


_DONE = {
    "extend": "The new end is set; everybody sees it within a minute.",
    "end": "The workshop has ended. Its notebooks stop now.",
    "cancel": "The workshop is cancelled.",
    "teach": "You have an instructor's place. You can start a notebook here.",
    "later": "Done. The hub doesn't answer just now; it will hear of it within a minute.",
}


class Changed(_Running):
    """`/{id}/{what}`: a change; ending and cancelling ask before."""

    def form_page(self) -> str:
        """The workshop's page."""
        return self.request.path.rpartition("/")[0]

    async def get(self, workshop_id: str, what: str) -> None:
        """The question before a change that can't be undone."""
        standing = await self.standing(workshop_id)
        standing.demand(_ACTIONS[what])
        page = f"{self.site.prefix}{workshop_id}"
        if what not in ("end", "cancel") or may_join(standing.workshop, self.context.now) is not None:
            self.redirect(page)
            return
        self.show(
            "sure.html", workshop=standing.workshop, view=_public(standing, self), what=what, xsrf=self.xsrf, page=page
        )

    async def post(self, workshop_id: str, what: str) -> None:
        """Make the change, then back to the page, which says so."""
        standing = await self.standing(workshop_id)
        standing.demand(_ACTIONS[what])
        try:
            informed = await self._change(standing, what)
        except (InvalidInput, Conflict) as error:
            text = "Somebody changed it at the same moment. See how it stands now, then repeat." if isinstance(
                error, StaleVersion) else str(error)  # fmt: skip
            await self.show_run(await self.standing(workshop_id), status=kind_of(error).status, problem=text)
            return
        page = f"{self.site.prefix}{workshop_id}"
        self.redirect(url_concat(page, {"done": what if informed else "later"}), status=303)

    async def _change(self, standing: Standing, what: str) -> bool:
        context = self.context
        if what == "extend":
            return (await actions.extend(context, standing, self._extension())).hub_informed
        if what == "end":
            return (await actions.end(context, standing, End())).hub_informed
        if what == "cancel":
            return (await actions.cancel(context, standing, Change())).hub_informed
        entry = await people.enrol(context, standing, Enrol(user=self.asker.name, role=Role.INSTRUCTOR))
        return entry.enrolment is not None and entry.enrolment.in_hub

    def _extension(self) -> Extend:
        amount, unit = self.get_body_argument("amount", ""), self.get_body_argument("unit", "minutes")
        try:
            return Extend(hours=float(amount) / (60 if unit == "minutes" else 1))
        except (ValueError, ValidationError) as error:
            raise InvalidInput(
                f"{amount[:20]!r} is not a number of {'minutes' if unit == 'minutes' else 'hours'}."
            ) from error


_ACTIONS = {"extend": Action.EXTEND, "end": Action.END, "cancel": Action.CANCEL, "teach": Action.SET_ROLE}


class Files(Page):
    """`/{id}/export`: one's own files."""

    async def get(self, workshop_id: str) -> None:
        """The archive."""
        standing = await self.standing(workshop_id)
        if standing.enrolment is None:
            raise NotFound("There are no files of yours in this workshop.")
        if self.request.method == "HEAD":  # nothing is packed only to be thrown away
            raise WrongMethod("HEAD", ("GET",))
        await export.send(self, export.own_files(self.context, standing))


class Nothing(Page):
    """Every other address below the prefix."""

    async def prepare(self) -> None:
        """Whatever the method, and whoever asks."""
        raise NotFound("There is nothing at this address. Check it, or start from your workshops.")


def page_handlers(site: Site) -> list[tuple[str, type[RequestHandler], dict[str, Any]]]:
    """The rules of all pages, below the site's prefix."""
    prefix, shared = site.prefix, {"site": site}
    workshop = rf"{prefix}([a-z0-9-]+)"
    return [
        (prefix, MyWorkshops, shared),
        (rf"{prefix}oauth_callback", Callback, shared),
        (rf"{prefix}static/(.+)", Static, {"path": static_folder()}),
        (rf"{prefix}join/([^/]+)", JoinPage, shared),
        (workshop, Run, shared),
        (rf"{workshop}/(extend|end|cancel|teach)", Changed, shared),
        (rf"{workshop}/export", Files, shared),
        (r"/.*", Nothing, shared),
    ]

"""One run of `up`: start, show addresses, wait for a signal, end everything.

Guarantees:

- Addresses are shown only when the pages and the API answer through the proxy.
- On a new folder the admin exists before the hub opens sign-up.
- The end takes at most `HUB_STOP_S + CHILD_STOP_S + SEAT_STOP_S + 2` seconds: the hub is asked to stop its seats, then
  children are ended, then what is left of seats by their records. A second signal ends all of it at once.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx

from orchestra_hub import __version__
from orchestra_hub.cli.console import Console
from orchestra_hub.cli.exit_codes import CommandRefused, ExitCode
from orchestra_hub.client import OrchestraClient
from orchestra_hub.errors import OrchestraError, StoreUnavailable
from orchestra_services.up.apart import SeatsApart
from orchestra_services.up.children import Child
from orchestra_services.up.demo import demo_workshop
from orchestra_services.up.readiness import hub_answers, local_client, pages_answer, until
from orchestra_services.up.secrets import Tokens, save_tokens
from orchestra_services.up.settings import DataFolder, InnerPorts, UpSettings
from orchestra_services.up.supervisor import Supervisor
from orchestra_spawner.processes import end_all, records_folder

__all__ = ["ADMIN", "CLI_SCOPES", "Plan", "Run"]

ADMIN = "admin"
CLI_SCOPES = ("inherit",)
"""What the command line's token may do: all that the admin may. Less would protect nothing: who can read the token's
file can read the cookie secret and the hub's database beside it."""

READY_WITHIN_S = 60.0
HUB_STOP_S = 5.0
CHILD_STOP_S = 1.0
SEAT_STOP_S = 0.5


@dataclass(frozen=True)
class Plan:
    """All that a run needs to know; every file it names is written."""

    settings: UpSettings
    folder: DataFolder
    ports: InnerPorts
    tokens: Tokens
    children: list[Child]
    apart: SeatsApart


class Run:
    """Signals: the first asks to stop, the second to stop at once."""

    def __init__(self, plan: Plan, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._plan = plan
        self._console = console
        self._clock = clock
        self._tokens = plan.tokens
        self._stop = asyncio.Event()
        self._at_once = asyncio.Event()
        self._supervisor = Supervisor(record=plan.folder.processes, report=console.note, clock=clock)

    async def main(self) -> ExitCode:
        """Run until a signal. Raises `OrchestraError` when something can't be started; everything is ended then."""
        self._watch_signals()
        starting = asyncio.create_task(self._start(), name="start")
        stopping = asyncio.create_task(self._stop.wait(), name="wait for a signal")
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()  # raises what went wrong
                await stopping
        finally:
            for task in (starting, stopping):
                task.cancel()
            await asyncio.gather(starting, stopping, return_exceptions=True)
            await self._end()
        return ExitCode.INTERRUPTED if self._at_once.is_set() else ExitCode.OK

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays in force
                loop.add_signal_handler(number, self._signalled)

    def _signalled(self) -> None:
        if self._stop.is_set():
            self._at_once.set()
        self._stop.set()

    async def _start(self) -> None:
        plan = self._plan
        self._console.line(f"Orchestra Hub {__version__}: starting; data and logs are in {plan.folder.root}")
        first = {child.name: child for child in plan.children if not child.after_hub}
        await self._supervisor.start(first.pop("proxy"))
        accounts_made = await self._accounts_before_the_hub()
        for child in first.values():
            await self._supervisor.start(child)
        async with local_client(plan.settings) as client:
            if not await self._within_bounds(lambda: hub_answers(client, plan.ports)):
                raise self._not_ready("hub")
            for child in plan.children:
                if child.after_hub:
                    await self._supervisor.start(child)
            if not accounts_made:
                await self._accounts()
            await self._until_pages_answer(client)
        self._show_addresses()
        if plan.settings.demo:
            await self._show_demo()
        self._console.line("Ctrl-C stops everything, seats too.", style="dim")

    async def _until_pages_answer(self, client: httpx.AsyncClient) -> None:
        async def all_answer() -> bool:
            return not await pages_answer(client, self._plan.settings)

        if not await self._within_bounds(all_answer):
            missing = await pages_answer(client, self._plan.settings)
            raise self._not_ready("workshops" if all("//api." in url for url in missing) else "proxy")

    async def _within_bounds(self, check: Callable[[], Awaitable[bool]]) -> bool:
        return await until(check, timeout_s=READY_WITHIN_S, clock=self._clock)

    def _not_ready(self, name: str) -> CommandRefused:
        words = self._supervisor.last_words(name)
        said = f" It crashed; its last words: {words}" if words else ""
        return CommandRefused(
            f"{name} did not answer within {READY_WITHIN_S:.0f} s; the reason is in "
            f"{self._plan.folder.logs / f'{name}.log'}.{said}",
            exit_code=ExitCode.NOT_READY,
        )

    async def _accounts_before_the_hub(self) -> bool:
        """Whether admin and token are made: always tried on a folder where they weren't; else the hub needn't wait."""
        new = not self._plan.folder.hub_database.exists()
        if self._tokens.command_line is not None and not new:
            return False
        try:
            await self._accounts()
        except StoreUnavailable:
            if new:
                raise
            return False  # an older JupyterHub's tables: the hub brings them up to date first
        return True

    async def _accounts(self) -> None:
        admin, password = await asyncio.to_thread(self._make_accounts)
        if password is not None:
            self._console.line("Made the admin's account:")
            self._console.field("name", admin)
            self._console.field("password", password)
            self._console.line(
                "  It is shown only now; `orchestra-hub user reset-password` makes another.", style="dim"
            )

    def _make_accounts(self) -> tuple[str, str | None]:
        from orchestra_hub.accounts import ensure_admin, ensure_cli_token  # takes half a second

        url = self._plan.folder.hub_database_url
        admin, password = ensure_admin(url, ADMIN)
        token = ensure_cli_token(url, admin, self._tokens.command_line, list(CLI_SCOPES))
        if token != self._tokens.command_line:
            self._tokens = save_tokens(self._plan.folder.secrets, self._tokens, {"command_line": token})
        return admin, password

    def _show_addresses(self) -> None:
        settings = self._plan.settings
        self._console.line("Ready.")
        self._console.field("hub", settings.origin("app"))
        self._console.field("API", f"{settings.origin('api')}/v1")

    async def _show_demo(self) -> None:
        try:
            shown = await asyncio.to_thread(self._make_demo)
        except OrchestraError as error:
            self._console.note(f"The demo workshop could not be made: {error}")
            return
        self._console.field("demo", shown)

    def _make_demo(self) -> str:
        settings = self._plan.settings
        token = self._tokens.command_line or ""
        with OrchestraClient(settings.origin("api"), token, local_domain=settings.domain) as client:
            workshop = demo_workshop(client)
        return workshop.join_url or workshop.url

    async def _end(self) -> None:
        ending = asyncio.create_task(self._end_politely(), name="end")
        at_once = asyncio.create_task(self._at_once.wait(), name="wait for a second signal")
        await asyncio.wait({ending, at_once}, return_when=asyncio.FIRST_COMPLETED)
        at_once.cancel()
        if not ending.done():
            self._supervisor.kill()
            ending.cancel()
        results = await asyncio.gather(ending, at_once, return_exceptions=True)
        await self._supervisor.stop(timeout_s=0)
        await end_all(records_folder(self._plan.folder.root), grace_s=0)
        if isinstance(results[0], Exception):
            raise results[0]

    async def _end_politely(self) -> None:
        self._console.line("Stopping ...")
        others = [child.name for child in self._plan.children if child.name not in ("hub", "proxy")]
        await asyncio.gather(self._end_hub(), self._supervisor.stop(others, timeout_s=CHILD_STOP_S))
        await self._supervisor.stop(timeout_s=CHILD_STOP_S)
        left = await end_all(records_folder(self._plan.folder.root), grace_s=SEAT_STOP_S)
        if left:
            self._console.line(f"Ended {left} seat(s) the hub had left.")
        self._console.line("Stopped.")

    async def _end_hub(self) -> None:
        """The hub ends its seats and itself; what it doesn't manage in time is ended by others after it."""
        await self._supervisor.release("hub")
        if self._supervisor.pid("hub") is None:
            return
        url = f"http://127.0.0.1:{self._plan.ports.hub}/hub/api/shutdown"
        headers = {"Authorization": f"token {self._tokens.supervisor}"}
        try:
            async with httpx.AsyncClient(timeout=2) as client:
                answer = await client.post(url, headers=headers, json={"servers": True, "proxy": False})
        except httpx.HTTPError:
            return
        if answer.is_success:
            await self._supervisor.wait("hub", HUB_STOP_S)

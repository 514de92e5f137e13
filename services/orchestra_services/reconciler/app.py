"""The reconciler as a program.

It ends within two seconds of SIGTERM or SIGINT and lets another lead at once. What it was doing then is broken off;
every step can be, and the next leader does it again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from traitlets import Bool, Enum, Float, Integer, Unicode, default
from traitlets.config import Application

from orchestra_hub.dates import utcnow
from orchestra_hub.errors import OrchestraError
from orchestra_hub.hub_api import HubAPI
from orchestra_hub.store import Store
from orchestra_services.reconciler.leading import Leadership, lead, new_holder
from orchestra_services.reconciler.steps import World
from orchestra_services.reconciler.worker import Limits, Worker
from orchestra_spawner.local_provisioner import LocalProvisioner

__all__ = ["ReconcilerApp"]

_END_TIMEOUT_S = 1.8
_SPARE_THREADS = 16  # so that long work on files never keeps the lease from being renewed
_log = logging.getLogger(__name__)


class ReconcilerApp(Application):
    """Carries workshops through their lives: Hub groups, resources, seats stopped, data purged."""

    name = "orchestra-reconciler"
    description = __doc__ or ""

    config_file = Unicode("", help="A Python or JSON configuration file to read. None by default.").tag(config=True)
    database_url = Unicode(
        help="The store's database. From ORCHESTRA_DATABASE_URL by default; a password belongs there, not on a "
        "command line."
    ).tag(config=True)
    data_dir = Unicode(help="The data folder of one machine. From ORCHESTRA_DATA_DIR by default.").tag(config=True)
    hub_api_url = Unicode(help="The Hub API, from JUPYTERHUB_API_URL by default.").tag(config=True)
    provisioner = Enum(
        ["local"], "local", help="Where workshops' resources are: `local` is folders below data_dir."
    ).tag(config=True)
    poll_interval_s = Float(
        1, help="Seconds between two looks for what is due; what a person waits for is done by the service at once."
    ).tag(config=True)
    sweep_interval_s = Float(
        60,
        help="Seconds between two looks at every workshop that isn't purged, to repair what was changed by hand: Hub "
        "groups, seats of people without a place, folders. Costs one Hub API call for 500 workshops; rows are read "
        "again within 60 sweeps.",
    ).tag(config=True)
    lease_ttl_s = Float(
        15,
        help="Seconds after which another process leads when the leader was killed. Renewed three times within; a "
        "small value makes a slow database look like a dead leader.",
    ).tag(config=True)
    database_wait_s = Float(
        5,
        help="Seconds a write waits for the database's lock or, on PostgreSQL, one statement may take; then it is "
        "tried again. Less than lease_ttl_s, or a busy database looks like a dead leader.",
    ).tag(config=True)
    concurrency = Integer(8, min=1, help="How many workshops are worked on at once.").tag(config=True)
    step_timeout_s = Float(120, help="Seconds one step may take; then it is tried again.").tag(config=True)
    prepare_timeout_s = Float(
        1200, help="Seconds the preparation of a workshop may take; installing a template's packages is part of it."
    ).tag(config=True)
    purge_timeout_s = Float(3600, help="Seconds the removal of a workshop's files may take.").tag(config=True)
    retry_first_s = Float(2, help="Seconds until a failed workshop is tried again; doubles each time.").tag(config=True)
    retry_most_s = Float(300, help="The longest pause between two tries of a failed workshop, in seconds.").tag(
        config=True
    )
    verbose = Bool(False, help="Also log decisions of the sweep not to act.").tag(config=True)

    aliases = {  # noqa: RUF012  # traitlets' own way
        "config": "ReconcilerApp.config_file",
        "database-url": "ReconcilerApp.database_url",
        "data-dir": "ReconcilerApp.data_dir",
        "hub-api-url": "ReconcilerApp.hub_api_url",
    }
    flags = {"verbose": ({"ReconcilerApp": {"verbose": True}}, verbose.help)}  # noqa: RUF012  # traitlets' own way

    @default("database_url")
    def _database_url_default(self) -> str:
        return os.environ.get("ORCHESTRA_DATABASE_URL", "")

    @default("data_dir")
    def _data_dir_default(self) -> str:
        return os.environ.get("ORCHESTRA_DATA_DIR", "")

    @default("hub_api_url")
    def _hub_api_url_default(self) -> str:
        return os.environ.get("JUPYTERHUB_API_URL", "")

    def start(self) -> None:
        """Work until a signal; exit code 1 with one line when something it needs is missing."""
        if self.config_file:
            self.load_config_file(self.config_file)
        level = logging.DEBUG if self.verbose else logging.INFO
        logging.raiseExceptions = False  # a line that a full disk has no room for is lost, not told of in the log
        logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname).1s %(message)s")
        logging.getLogger("orchestra_services").setLevel(level)
        logging.getLogger("orchestra_spawner").setLevel(level)
        try:
            asyncio.run(self._main())
        except OrchestraError as error:
            self.exit_with(str(error))

    def exit_with(self, sentence: str) -> None:
        """One line, exit code 1."""
        _log.error("The reconciler ends: %s", sentence)
        self.exit(1)

    async def _main(self) -> None:
        token = os.environ.get("JUPYTERHUB_API_TOKEN", "")
        wanted = {
            "ORCHESTRA_DATABASE_URL": self.database_url, "ORCHESTRA_DATA_DIR": self.data_dir,
            "JUPYTERHUB_API_URL": self.hub_api_url, "JUPYTERHUB_API_TOKEN": token,
        }  # fmt: skip
        if missing := [name for name, value in wanted.items() if not value]:
            self.exit_with(f"it does not know {', '.join(missing)}. Set the environment, or configure it.")
        working = asyncio.current_task()
        assert working is not None
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(max_workers=self.concurrency + _SPARE_THREADS))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _end, working)
        store = await asyncio.to_thread(Store.open, self.database_url, lock_wait_s=self.database_wait_s)
        try:
            async with HubAPI(self.hub_api_url, token) as hub:
                world = World(store, hub, LocalProvisioner(Path(self.data_dir)), utcnow)
                await lead(store, new_holder(), self.lease_ttl_s, lambda leadership: self._work(world, leadership))
        except asyncio.CancelledError:
            _log.info("ended by a signal")
        finally:
            await asyncio.to_thread(store.close)

    async def _work(self, world: World, leadership: Leadership) -> None:
        await asyncio.to_thread(world.store.forget)
        limits = Limits(**{name: getattr(self, name) for name in Limits.__dataclass_fields__})
        await Worker(world, leadership, limits).run()


def _end(working: asyncio.Task[object]) -> None:
    """End soon although a thread may still copy or remove files: nobody waits for it, the next leader does it again."""
    timer = threading.Timer(_END_TIMEOUT_S, os._exit, args=(0,))
    timer.daemon = True
    timer.start()
    working.cancel()

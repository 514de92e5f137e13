"""`WorkshopsApp`: the service's settings, its start and its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tornado.httpserver import HTTPServer
from traitlets import Float, Integer, Type, Unicode, default
from traitlets.config import Application, catch_config_error

from orchestra_hub import __version__
from orchestra_hub.attempts import Attempts
from orchestra_hub.dates import utcnow
from orchestra_hub.errors import InvalidInput, OrchestraError
from orchestra_hub.hub.hosts import Hosts
from orchestra_hub.hub_api import HubAPI
from orchestra_hub.store import Store
from orchestra_hub.templates import builtin_templates_root
from orchestra_services.workshops.auth import Door, cookie_secret, hub_oauth
from orchestra_services.workshops.context import Context, Defaults
from orchestra_services.workshops.server import make_application, make_server
from orchestra_services.workshops.views import PREFIX
from orchestra_spawner.provisioner import Provisioner

__all__ = ["WorkshopsApp"]

_DRAIN_S = 3.0
_THREADS = 32


class WorkshopsApp(Application):
    """The workshops service: REST API and people's pages."""

    name = "orchestra-workshops"
    version = __version__
    description = __doc__

    config_file = Unicode("", config=True, help="A Python or JSON configuration file to load (traitlets).")
    database_url = Unicode(
        config=True,
        help="""
        SQLAlchemy URL of our database, `sqlite:////folder/orchestra.sqlite` or `postgresql://user@host/name`; the same
        as the reconciler's. Default: the environment's ORCHESTRA_DATABASE_URL, else a file in `data_dir`.
        """,
    )
    data_dir = Unicode(
        config=True,
        help="""
        Folder with the workshops' files, read for exports; the same as the spawner's. Default: the environment's
        ORCHESTRA_DATA_DIR.
        """,
    )
    public_url = Unicode(
        config=True,
        help="""
        Scheme, domain and port of the platform, `https://example.org`; must be the hub's `public_base_url`, or links
        and sign-in lead astray. Default: the environment's ORCHESTRA_PUBLIC_URL, else `http://localhost:8000`.
        """,
    )
    bind_url = Unicode(
        config=True,
        help="""
        Where to listen, `http://127.0.0.1:8002`. Only the proxy should reach it: its word on the visitor's address is
        believed. Default: the environment's JUPYTERHUB_SERVICE_URL.
        """,
    )
    templates_root = Unicode(
        config=True,
        help="Folder of workshop templates. Default: the environment's ORCHESTRA_TEMPLATES, else those built in.",
    )
    default_warning_min = Float(
        15,
        min=0,
        config=True,
        help="Minutes before its end at which a workshop warns its people, when its creator doesn't say; time to save.",
    )
    default_lead_time_min = Float(
        10,
        min=0,
        config=True,
        help="""
        Minutes before its opening at which a workshop is prepared, when its creator doesn't say. Must be longer than
        installing a template's requirements takes, or learners wait.
        """,
    )
    creators_group = Unicode(
        "workshop-creators",
        config=True,
        help="""
        Hub group whose members may create workshops, besides operators. Whoever may change that group's members decides
        who uses the platform's machines; an authenticator with `manage_groups` is such a one.
        """,
    )
    code_attempts = Integer(
        10,
        min=1,
        config=True,
        help="""
        How many wrong join codes and invitations of one account from one address within `code_attempts_window_s` are
        answered; then 429 until the oldest of them is that old. Right ones aren't counted. Each process of the service
        counts for itself.
        """,
    )
    code_attempts_window_s = Integer(
        300, min=1, config=True, help="For how many seconds a wrong code counts against `code_attempts`."
    )
    database_wait_s = Float(
        5,
        min=0.1,
        config=True,
        help="""
        Seconds a request waits for the database's lock or, on PostgreSQL, for one statement, before it is refused with
        503. Less than `request_timeout_s`.
        """,
    )
    request_timeout_s = Float(
        10,
        min=1,
        config=True,
        help="""
        Seconds a request may work on the database in all; then it is refused with 503 and nothing of it is done.
        Waiting for the hub isn't counted: that has limits of its own.
        """,
    )
    provisioner_class = Type(
        "orchestra_spawner.local_provisioner.LocalProvisioner",
        klass=object,
        config=True,
        help="The Provisioner that exports files; made with `data_dir`. Must fit the hub's spawner.",
    )
    hub_api_url = Unicode(config=True, help="The Hub API. Default: the environment's JUPYTERHUB_API_URL.")
    hub_api_token = Unicode(
        config=True,
        help="""
        This service's Hub API token; a secret, better in the environment's JUPYTERHUB_API_TOKEN (the default) than in a
        file. Cookies are signed with a key made from it, so a new one signs everybody out of these pages.
        """,
    )
    client_id = Unicode(config=True, help="OAuth client. Default: the environment's JUPYTERHUB_CLIENT_ID.")

    aliases = {  # noqa: RUF012  # traitlets reads it from the class and never changes it
        "config": "WorkshopsApp.config_file",
        "data-dir": "WorkshopsApp.data_dir",
        "public-url": "WorkshopsApp.public_url",
        "bind-url": "WorkshopsApp.bind_url",
    }

    @default("log_level")
    def _log_level_default(self) -> int:
        return logging.INFO

    @default("data_dir")
    def _data_dir_default(self) -> str:
        return os.environ.get("ORCHESTRA_DATA_DIR", "")

    @default("database_url")
    def _database_url_default(self) -> str:
        own = f"sqlite:///{Path(self.data_dir).absolute() / 'orchestra.sqlite'}" if self.data_dir else ""
        return os.environ.get("ORCHESTRA_DATABASE_URL", own)

    @default("public_url")
    def _public_url_default(self) -> str:
        return os.environ.get("ORCHESTRA_PUBLIC_URL", "http://localhost:8000")

    @default("bind_url")
    def _bind_url_default(self) -> str:
        return os.environ.get("JUPYTERHUB_SERVICE_URL", "http://127.0.0.1:8002")

    @default("templates_root")
    def _templates_root_default(self) -> str:
        return os.environ.get("ORCHESTRA_TEMPLATES") or str(builtin_templates_root())

    @default("hub_api_url")
    def _hub_api_url_default(self) -> str:
        return os.environ.get("JUPYTERHUB_API_URL", "http://127.0.0.1:8081/hub/api")

    @default("hub_api_token")
    def _hub_api_token_default(self) -> str:
        return os.environ.get("JUPYTERHUB_API_TOKEN", "")

    @default("client_id")
    def _client_id_default(self) -> str:
        return os.environ.get("JUPYTERHUB_CLIENT_ID", "service-workshops")

    @catch_config_error
    def initialize(self, argv: list[str] | None = None) -> None:
        """Read the command line, then the configuration file, which it wins over; say lines in one form."""
        self.parse_command_line(argv)
        if self.config_file:
            command_line = deepcopy(self.cli_config)
            self.load_config_file(self.config_file)
            self.update_config(command_line)
        logging.basicConfig(level=int(str(self.log_level)), format="%(asctime)s %(levelname)s %(name)s %(message)s")
        for noisy in ("httpx", "httpcore", "tornado.access"):
            logging.getLogger(noisy).setLevel(logging.WARNING)

    def check(self) -> None:
        """Raises `InvalidInput` for a setting that is missing."""
        needed = {"data_dir": "ORCHESTRA_DATA_DIR", "hub_api_token": "JUPYTERHUB_API_TOKEN"}
        for trait, variable in needed.items():
            if not getattr(self, trait):
                raise InvalidInput(f"WorkshopsApp.{trait} isn't set; set it or {variable}.")

    def door(self, hub: HubAPI, hosts: Hosts) -> Door:
        """What finds out who asks."""
        oauth = hub_oauth(
            api_url=self.hub_api_url,
            api_token=self.hub_api_token,
            hub_host=hosts.app,
            prefix=PREFIX,
            client_id=self.client_id,
            redirect_uri=f"{hosts.app}{PREFIX}oauth_callback",
            https=hosts.scheme == "https",
        )
        return Door(oauth, hub, creators_group=self.creators_group, monotonic=time.monotonic)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[HTTPServer]:
        """The service, listening; everything it opened is closed at the end."""
        self.check()
        hosts = Hosts.from_public_url(self.public_url)
        where = urlsplit(self.bind_url)
        # what waits for the database keeps nothing else from being read
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(max_workers=_THREADS))
        store = await asyncio.to_thread(self._open_store)
        try:
            async with HubAPI(self.hub_api_url, self.hub_api_token) as hub:
                context = Context(
                    store=store,
                    hub=hub,
                    provisioner=self.provisioner(),
                    hosts=hosts,
                    clock=utcnow,
                    templates_root=Path(self.templates_root),
                    defaults=Defaults(self.default_warning_min, self.default_lead_time_min),
                    code_attempts=Attempts(self.code_attempts, self.code_attempts_window_s),
                    request_timeout_s=self.request_timeout_s,
                )
                secret = cookie_secret(self.hub_api_token)
                application = make_application(context, self.door(hub, hosts), prefix=PREFIX, cookie_secret=secret)
                server = make_server(application)
                server.listen(where.port or 8002, where.hostname or "127.0.0.1")
                self.log.info("serving %s and %s%s on %s", hosts.api, hosts.app, PREFIX, self.bind_url)
                try:
                    yield server
                finally:
                    server.stop()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(server.close_all_connections(), _DRAIN_S)
        finally:
            await asyncio.to_thread(store.close)

    def provisioner(self) -> Provisioner:
        """What reads the files."""
        made: Callable[[Path], Provisioner] = self.provisioner_class  # type: ignore[assignment]  # any class of that form
        return made(Path(self.data_dir))

    def _open_store(self) -> Store:
        backups = Path(self.data_dir) / "backups"
        return Store.open(self.database_url, backup_dir=backups, lock_wait_s=self.database_wait_s)

    async def run(self) -> None:
        """Serve until the process is asked to end (SIGTERM, SIGINT)."""
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
        async with self.serving():
            await ended.wait()
        self.log.info("ended")

    def start(self) -> None:
        """Serve; a setting or a database that can't be used ends the process with one line."""
        try:
            asyncio.run(self.run())
        except (OrchestraError, OSError) as error:
            self.log.error("%s", error)
            self.exit(1)


def main(argv: list[str] | None = None, **settings: Any) -> None:
    """Run the service."""
    logging.raiseExceptions = False  # a line that a full disk has no room for is lost, not told of in the log
    application = WorkshopsApp(**settings)
    application.initialize(argv)
    application.start()

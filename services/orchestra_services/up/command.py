"""`orchestra-hub up` from the command line's wishes to a plan: look at everything first, then write, then run."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from orchestra_hub.cli.console import Console
from orchestra_hub.cli.exit_codes import CommandRefused, ExitCode
from orchestra_services.up import preflight
from orchestra_services.up.apart import check_listening, close, find_out, hold_user_ids, said, told_to_warden
from orchestra_services.up.children import children, inherited
from orchestra_services.up.chosen_store import chosen_store
from orchestra_services.up.hub_config import hub_config
from orchestra_services.up.run import Plan, Run
from orchestra_services.up.secrets import cookie_secret_file, load_tokens, write_private
from orchestra_services.up.settings import (
    FORMAT,
    LOOPBACK,
    DataFolder,
    Remembered,
    UpSettings,
    check_domain,
    check_listen,
    check_port,
)
from orchestra_services.up.supervisor import end_leftovers
from orchestra_services.up.traefik import entry_points, kept_routes, proxy_config, rendered
from orchestra_spawner.processes import records_folder, running

__all__ = ["Asked", "resolved", "up"]


@dataclass(frozen=True)
class Asked:
    """The command line's wishes; None means as last time."""

    data_dir: Path
    port: int | None = None
    domain: str | None = None
    demo: bool = False
    sign_up: bool = True
    hub_config_file: Path | None = None
    listen: str = LOOPBACK
    seats_share_one_user: bool = False
    database_url: str | None = None


def resolved(asked: Asked, remembered: Remembered | None, *, seats: int) -> UpSettings:
    """What to run with. Seats that still run were told their addresses: port and domain can't change then."""
    port = asked.port if asked.port is not None else remembered.port if remembered else 8000
    domain = asked.domain if asked.domain is not None else remembered.domain if remembered else "localhost"
    settings = UpSettings(
        data_dir=asked.data_dir,
        port=check_port(port),
        domain=check_domain(domain),
        demo=asked.demo,
        sign_up=asked.sign_up,
        hub_config_file=asked.hub_config_file,
        listen=check_listen(asked.listen),
    )
    if seats and remembered and (settings.port, settings.domain) != (remembered.port, remembered.domain):
        raise CommandRefused(
            f"{seats} running seat(s) of the last run are at port {remembered.port} of {remembered.domain}; start with "
            f"--port {remembered.port} --domain {remembered.domain}, stop them (Ctrl-C), then change it.",
            exit_code=ExitCode.SEATS_RUNNING,
        )
    return settings


def up(asked: Asked, console: Console, environment: Mapping[str, str]) -> ExitCode:
    """Run everything until a signal; returns the exit code. Raises `OrchestraError` for what can't be started."""
    os.umask(0o077)  # databases and logs are for their owner alone, also in a folder that others may enter
    preflight.check_python(sys.version_info[:2])
    preflight.check_programs()
    if asked.hub_config_file is not None and not asked.hub_config_file.is_file():
        raise CommandRefused(
            f"There is no file {asked.hub_config_file}; name the hub's configuration with --config.",
            exit_code=ExitCode.INVALID_INPUT,
        )
    folder = DataFolder(preflight.check_path(asked.data_dir.expanduser().absolute()))
    preflight.make_folder(folder)
    with preflight.hold_lock(folder), preflight.file_errors_refused(folder):
        remembered = preflight.read_remembered(folder)
        seats = running(records_folder(folder.root))
        before = None if remembered is None else remembered.user_id_block
        with hold_user_ids(folder, before, seats_run=seats > 0) as block:
            lasting = _Lasting(remembered, seats, block)
            plan = _prepare(replace(asked, data_dir=folder.root), folder, lasting, environment, console)
            try:
                return asyncio.run(Run(plan, console).main())
            finally:
                close(plan.apart)


@dataclass(frozen=True)
class _Lasting:
    """What is from the last run: its file, how many seats go on, the range of their user ids."""

    remembered: Remembered | None
    seats: int
    block: int


def _prepare(
    asked: Asked, folder: DataFolder, lasting: _Lasting, environment: Mapping[str, str], console: Console
) -> Plan:
    remembered, seats, root = lasting.remembered, lasting.seats, os.geteuid() == 0
    preflight.check_revision(folder.store, _store_knows)
    preflight.check_revision(folder.hub_database, _hub_knows)
    settings = resolved(asked, remembered, seats=seats)
    ended = end_leftovers(folder.processes, timeout_s=3)
    if ended:
        console.line(f"Ended what was left of the last run: {', '.join(ended)}.")
    if seats:
        console.line(f"{seats} seat(s) of the last run go on.")
    preflight.check_public_port(settings.port, settings.listen)
    ports = preflight.inner_ports(remembered.inner_ports if remembered else None)
    apart = find_out(settings, folder, ports, lasting.block, root=root)
    try:
        check_listening(settings, apart, shared_allowed=asked.seats_share_one_user)
    except CommandRefused:
        close(apart)
        raise
    lacking = said(apart)
    if lacking is not None:
        console.note(lacking)
    tokens = load_tokens(folder.secrets)
    cookie_secret_file(folder.secrets)
    store_url = chosen_store(asked.database_url, folder)
    now = Remembered(
        format=FORMAT, domain=settings.domain, port=settings.port, inner_ports=ports, user_id_block=lasting.block
    )
    write_private(folder.remembered, now.model_dump_json(indent=2) + "\n")
    config = hub_config(settings, folder, ports, tokens, root=root, cores=os.cpu_count() or 1, apart=apart)
    write_private(folder.up_file, json.dumps(config, indent=2) + "\n")
    write_private(folder.warden_file, json.dumps(told_to_warden(apart, folder), indent=2) + "\n")
    write_private(folder.proxy_config, rendered(proxy_config(folder, settings.entry_addresses, ports)))
    routes = folder.routes.read_text(errors="replace") if folder.routes.exists() else ""
    write_private(folder.routes, kept_routes(routes, entry_points(settings.entry_addresses)))
    made = children(
        settings,
        folder,
        ports,
        tokens,
        traefik=preflight.find_program("traefik") or "traefik",
        base=inherited(environment, sys.executable, Path.cwd()),
        store_url=store_url,
    )
    return Plan(settings, folder, ports, tokens, made, apart)


def _store_knows(revision: str) -> bool:
    from orchestra_hub.store.migrating import REVISIONS

    return revision in REVISIONS


def _hub_knows(revision: str) -> bool:
    from orchestra_hub.accounts import knows_revision

    return knows_revision(revision)

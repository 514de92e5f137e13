"""Many idle single-user servers in one process, for benches: 500 real JupyterLabs don't fit in a machine's memory.

A spawner starts `LAUNCHER` for each, which hands its environment to this process and stays (as `sleep`), so that there
is a real process to watch and to stop. Here every server answers HTTP on its port and says to the hub what an idle one
says: a seat runs this package's own notice board and hub link, held answers included; a server of JupyterHub's reports
its activity every 5 minutes, as JupyterHub 6.1's single-user server does whether or not there was any.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sys
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler

from orchestra_hub.errors import HubUnavailable
from orchestra_spawner.seat.hub_link import HubLink, hub_address
from orchestra_spawner.seat.notice_board import NoticeBoard

LAUNCHER = """import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as link:
    link.connect(sys.argv[1])
    link.sendall(json.dumps(dict(os.environ)).encode() + b"\\n")
    link.recv(1)
os.execvp("sleep", ["sleep", "infinity"])
"""


class _Answers(RequestHandler):
    def get(self) -> None:
        self.finish("{}")


def _now() -> datetime:
    return datetime.now(UTC)


async def _be_idle(environment: dict[str, str]) -> None:
    started = _now()
    link = HubLink(hub_address(environment))
    if environment.get("ORCHESTRA_WORKSHOP_ID"):
        board = NoticeBoard(link, interval_s=10, clock=_now, log=logging.getLogger("light"))
        await link.report_activity(started)
        await board.keep_fresh()
    while True:
        try:
            await link.report_activity(started)
        except HubUnavailable as error:
            logging.warning("%s", error)
        await asyncio.sleep(300 * random.uniform(0.9, 1.1))


async def serve(path: Path) -> None:
    """Take servers over until stopped."""
    idle: set[asyncio.Task[None]] = set()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        environment = json.loads(await reader.readline())
        address = urlsplit(environment["JUPYTERHUB_SERVICE_URL"])
        HTTPServer(Application([(".*", _Answers)])).listen(address.port or 0, "127.0.0.1")
        idle.add(asyncio.create_task(_be_idle(environment)))
        writer.write(b"!")
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(take, path, backlog=512)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    logging.getLogger("tornado.access").setLevel(logging.ERROR)
    asyncio.run(serve(Path(sys.argv[1])))

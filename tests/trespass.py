"""What a hostile learner tries from a notebook, as code to run there; each attempt tells whether it got through."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psutil

from tests.running import Platform

_CODE = r"""
import json, os, socket
targets = json.loads(TARGETS)
found = {}

def attempt(name, do):
    try:
        do()
        found[name] = "got through"
    except Exception as error:
        found[name] = type(error).__name__

def connect(port, address="127.0.0.1"):
    with socket.create_connection((address, port), 3) as there:
        there.sendall(b"GET / HTTP/1.0\r\n\r\n")
        there.recv(1)

def unix(path):
    os.chdir(os.path.dirname(path))  # a socket's address may have 108 signs only
    with socket.socket(socket.AF_UNIX) as there:
        there.connect(os.path.basename(path))

for name, path in targets["files"].items():
    attempt("read " + name, lambda: open(path, "rb").read())
for name, path in targets["folders"].items():
    attempt("list " + name, lambda: os.listdir(path)[0])
    attempt("write in " + name, lambda: open(os.path.join(path, "planted"), "x"))
for name, pid in targets["processes"].items():
    attempt("environment of " + name, lambda: open(f"/proc/{pid}/environ", "rb").read())
    attempt("signal " + name, lambda: os.kill(pid, 0))
for name, path in targets["sockets"].items():
    attempt("socket of " + name, lambda: unix(path))
for name, port in targets["ports"].items():
    attempt("port of " + name, lambda: connect(port))
print(json.dumps(found))
"""


def targets(platform: Platform, victim: str, socket: Path) -> dict[str, Any]:
    """Everything of the platform, and of the running seat of `victim`, who listens on a unix socket too."""
    root = platform.data_dir
    (seat,) = root.glob(f"workshops/*/seats/{victim}-*")
    record = json.loads(next((root / "run" / "seats").glob(f"{victim}-*.json")).read_text())
    server = psutil.Process(record["pid"])
    ports = json.loads((root / "orchestra.json").read_text())["inner_ports"]
    listening = {
        f"{victim}'s {process.name()} {connection.laddr.port}": connection.laddr.port
        for process in (server, *server.children(recursive=True))
        for connection in process.net_connections("tcp4")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.ip == "127.0.0.1"
    }
    assert len(listening) > 4, "the server's port and its kernel's"
    children = platform.children()
    return {
        "files": {
            "tokens": f"{root}/secrets/tokens.json",
            "our database": f"{root}/orchestra.sqlite",
            "the hub's database": f"{root}/jupyterhub.sqlite",
            "the hub's log": f"{root}/logs/hub.log",
            "the hub's configuration": f"{root}/run/up.json",
            f"{victim}'s log": f"{seat}/seat.log",
            f"{victim}'s file": f"{seat}/home/private.txt",
        },
        "folders": {"the data folder": f"{root}/secrets", f"{victim}'s home": f"{seat}/home"},
        "processes": {"the hub": children["hub"], "the service": children["workshops"], f"{victim}'s": record["pid"]},
        "sockets": {victim: str(socket)},
        "ports": {**{f"the {name}": port for name, port in ports.items()}, **listening},
    }


def trespass(found: dict[str, Any]) -> str:
    """The code that tries to get at `found` and prints what became of each attempt."""
    return f"TARGETS = {json.dumps(found)!r}\n{_CODE}"

"""What counts as activity in a seat, beyond what Jupyter Server counts, and what doesn't.

- A kernel that runs a cell and a terminal with a command in the foreground are active, however silent: Jupyter Server
  sees output only.
- An open page is no activity: JupyterLab 4.6 asks for kernels, sessions, terminals and folders and saves its workspace
  every 10 s, all of which Jupyter Server counts, so that a seat with a visible tab would never be idle. What counts
  of the API is a change (`POST`, `PUT`, `PATCH`, `DELETE` under `api/`); our front end says when a person opens a
  page. Other requests are marked with `no_track_activity`, Jupyter Server's own parameter. Proxied apps record theirs
  themselves.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any

from tornado.httputil import HTTPServerRequest
from tornado.web import Application

__all__ = ["BusyKernels", "is_background_request", "running_terminals", "untrack_background_requests"]

_CHANGES = frozenset({"POST", "PUT", "PATCH", "DELETE"})


def is_background_request(method: str, path: str, base_url: str) -> bool:
    """Whether the page may have sent this by itself: anything but a change under `{base_url}api/`."""
    return not (method in _CHANGES and path.startswith(f"{base_url.rstrip('/')}/api/"))


def untrack_background_requests(web_app: Application, base_url: str) -> None:
    """Let `web_app` mark background requests so that they don't count as activity."""
    find_handler = web_app.find_handler

    def find_and_mark(request: HTTPServerRequest, **kwargs: Any) -> Any:
        if is_background_request(request.method or "GET", request.path, base_url):
            request.arguments.setdefault("no_track_activity", [b"1"])
        return find_handler(request, **kwargs)

    web_app.find_handler = find_and_mark  # type: ignore[method-assign]  # on this one application only


class BusyKernels:
    """The kernels that run something now, as Jupyter Server's kernel manager has them.

    Jupyter Server 2.21 leaves a kernel that died while busy 'busy' after its manager has restarted it, until a next
    cell runs: such a seat would never be idle. So a kernel, once seen here, is set back to 'starting' on a restart.
    """

    def __init__(self, kernel_manager: Any) -> None:
        self._manager = kernel_manager
        self._watched: set[str] = set()

    def ids(self) -> list[str]:
        """The ids of busy kernels; 'starting' is not busy."""
        ids = list(self._manager.list_kernel_ids())
        for kernel_id in ids:
            if kernel_id not in self._watched:
                self._manager.add_restart_callback(kernel_id, partial(self._restarted, kernel_id), "restart")
        self._watched = set(ids)
        return [kernel_id for kernel_id in ids if self._state(kernel_id) == "busy"]

    def _state(self, kernel_id: str) -> str | None:
        return getattr(self._manager.get_kernel(kernel_id), "execution_state", None)

    def _restarted(self, kernel_id: str) -> None:
        if kernel_id in self._manager and self._state(kernel_id) == "busy":
            self._manager.get_kernel(kernel_id).execution_state = "starting"


def running_terminals(terminal_manager: Any) -> list[str]:
    """The names of terminals with a command in the foreground.

    A shell leads a session and process group of its own (its pid); with job control a command it runs is put into
    another group that becomes the terminal's foreground group (termios TIOCGPGRP, readable at the master's side on
    Linux). A job sent to the background with `&` is not seen.
    """
    if terminal_manager is None:
        return []
    return [name for name, terminal in list(terminal_manager.terminals.items()) if _has_command(terminal.ptyproc)]


def _has_command(ptyproc: Any) -> bool:
    try:
        foreground = os.tcgetpgrp(ptyproc.fd)
    except OSError:  # the shell has ended, its terminal is being closed
        return False
    return foreground > 0 and foreground != ptyproc.pid

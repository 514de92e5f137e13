"""A TCP proxy of the tests' own: real sockets that can be cut in the middle of something, refused, or made slow."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["TcpProxy", "tcp_proxy"]

_CHUNK = 65_536


class TcpProxy:
    """Between clients and the server at `target_port`. `delay_s` is added to whatever a client says."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._cut_at: bytes | None = None
        self.port = int(self._listening.getsockname()[1])
        self.delay_s = 0.0
        self.cuts = 0

    def cut_at(self, words: bytes) -> None:
        """Cut the first connection whose client says `words`, instead of passing them on; once."""
        self._cut_at = words

    def cut(self) -> None:
        """Cut every connection."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            _close(*pair)

    def serve(self) -> None:
        """Until `close`."""
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target_port), timeout=5)
                server.settimeout(None)
            except OSError:
                _close(client)
                continue
            with self._lock:
                self._pairs.append((client, server))
            threading.Thread(target=self._pass_on, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pass_on, args=(server, client, False), daemon=True).start()

    def close(self) -> None:
        """Cut everything and listen no more."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()

    def _pass_on(self, source: socket.socket, target: socket.socket, from_client: bool) -> None:
        with contextlib.suppress(OSError):
            while said := source.recv(_CHUNK):
                if from_client and self._cut_at is not None and self._cut_at in said:
                    self._cut_at = None
                    self.cuts += 1
                    break
                if from_client and self.delay_s:
                    time.sleep(self.delay_s)  # the fault itself, not a wait for something
                target.sendall(said)
        _close(source, target)


def _close(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


@contextmanager
def tcp_proxy(target_port: int) -> Iterator[TcpProxy]:
    """A proxy that runs until the block is left."""
    proxy = TcpProxy(target_port)
    thread = threading.Thread(target=proxy.serve, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.close()
        thread.join(5)

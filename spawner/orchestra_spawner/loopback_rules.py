"""Packet filter rules that keep seats from each other's and the platform's ports on this machine. Text is pure.

Loopback connections of a seat's user id are let through only to listeners of the same id and to ports that are open to
seats. Who listens isn't known when a connection is asked for, but when it is answered: so the asker's id is kept as the
connection's mark, and an answer (SYN-ACK) by another user is dropped; when the asker tries again, a second later, the
connection is refused. Ports known to be forbidden are refused at once. Of UDP, seats may ask the local resolver alone.
No seat reaches addresses of a cloud's metadata service, on whatever interface.

nftables; a table of its own for each platform, so nothing of the machine's own rules is touched, and `nft delete table`
ends it all.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from orchestra_spawner.identities import UserIds

__all__ = ["METADATA", "Rules", "RulesFailed", "apply", "is_there", "let_in", "removal", "table_text"]

METADATA = ("169.254.0.0/16", "100.100.100.200")
METADATA_6 = ("fd00:ec2::254",)
_REFUSED = 1
"""Mark of a connection that was answered by somebody else; no user id of a seat."""
_TIMEOUT_S = 10


class RulesFailed(Exception):
    """`nft` refused; the message is its first line."""


@dataclass(frozen=True)
class Rules:
    """One platform's. `open_ports` are for all seats, `closed_ports` refused at once; all other ports are looked at."""

    table: str
    ids: UserIds
    open_ports: tuple[int, ...]
    closed_ports: tuple[int, ...] = ()


def table_text(rules: Rules, uids: Iterable[int] = ()) -> str:
    """What makes the table anew, in one transaction, with the ids of the seats `uids` known."""
    known = sorted(set(uids))
    who = _elements(f"{uid} : {uid}" for uid in known)
    same = _elements(f"{uid} . {uid}" for uid in known)
    closed = "" if not rules.closed_ports else f"tcp dport {_set(rules.closed_ports)} reject with tcp reset"
    ids, metadata, metadata_6 = str(rules.ids), _set(METADATA), _set(METADATA_6)
    return f"""\
table inet {rules.table}
delete table inet {rules.table}
table inet {rules.table} {{
  map who {{ type uid : mark; {who} }}
  set same {{ type mark . uid; {same} }}
  chain out {{
    type filter hook output priority 0; policy accept;
    meta skuid {ids} ip daddr {metadata} reject
    meta skuid {ids} ip6 daddr {metadata_6} reject
    oifname != "lo" accept
    meta skuid {ids} ct direction original jump asks
    ct direction reply ct mark {ids} tcp flags & (syn|ack) == syn|ack ct mark . meta skuid != @same jump other
  }}
  chain asks {{
    tcp dport {_set((53, *rules.open_ports))} accept
    udp dport 53 accept
    meta l4proto udp reject
    {closed}
    ct mark {_REFUSED} meta l4proto tcp reject with tcp reset
    ct state new ct mark set meta skuid map @who
    meta l4proto tcp ct mark != {ids} reject with tcp reset
  }}
  chain other {{
    ct mark set {_REFUSED}
    drop
  }}
}}
"""


def _elements(items: Iterable[str]) -> str:
    joined = ", ".join(items)
    return f"elements = {{ {joined} }};" if joined else ""


def _set(items: Sequence[object]) -> str:
    return f"{{ {', '.join(str(item) for item in dict.fromkeys(items))} }}"


def removal(table: str) -> str:
    """What removes a table, there or not."""
    return f"table inet {table}\ndelete table inet {table}\n"


def let_in(table: str, uid: int) -> str:
    """What makes a seat's id known; a seat that isn't may connect to nothing."""
    return f"add element inet {table} who {{ {uid} : {uid} }}\nadd element inet {table} same {{ {uid} . {uid} }}\n"


def is_there(table: str, *, program: str = "nft") -> bool:
    """Whether the kernel has the table now. Raises `RulesFailed`."""
    try:
        done = subprocess.run(
            [program, "list", "chain", "inet", table, "out"], capture_output=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RulesFailed(f"{program}: {error}") from error
    return done.returncode == 0


def apply(text: str, *, program: str = "nft") -> None:
    """Hand rules to the kernel, all or none. Raises `RulesFailed`."""
    try:
        done = subprocess.run(
            [program, "-f", "-"], input=text, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RulesFailed(f"{program}: {error}") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise RulesFailed(lines[0] if lines else f"{program} ended with {done.returncode}")

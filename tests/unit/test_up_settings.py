"""What `up` was asked for and what it remembers."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestra_hub.cli.exit_codes import CommandRefused, ExitCode
from orchestra_hub.errors import InvalidInput
from orchestra_services.up.command import Asked, resolved
from orchestra_services.up.settings import FORMAT, InnerPorts, Remembered, UpSettings, check_domain, check_port

PORTS = InnerPorts(hub=20001, service=20002, proxy_api=20003)
LAST_TIME = Remembered(format=FORMAT, domain="hub.test", port=8080, inner_ports=PORTS)


def test_the_first_run_is_on_localhost_8000(tmp_path: Path) -> None:
    settings = resolved(Asked(tmp_path), None, seats=0)
    assert (settings.domain, settings.port) == ("localhost", 8000)
    assert settings.public_url == "http://localhost:8000"
    assert settings.origin("app") == "http://app.localhost:8000"


def test_the_next_run_is_where_the_last_was(tmp_path: Path) -> None:
    settings = resolved(Asked(tmp_path), LAST_TIME, seats=3)
    assert (settings.domain, settings.port) == ("hub.test", 8080)


def test_what_is_asked_for_wins(tmp_path: Path) -> None:
    settings = resolved(Asked(tmp_path, port=9000, domain="Other.Test."), LAST_TIME, seats=0)
    assert (settings.domain, settings.port) == ("other.test", 9000)


@pytest.mark.parametrize("asked", [{"port": 9000}, {"domain": "other.test"}])
def test_addresses_stay_while_seats_run(tmp_path: Path, asked: dict[str, object]) -> None:
    with pytest.raises(CommandRefused, match=r"2 running seat.*--port 8080 --domain hub\.test") as refused:
        resolved(Asked(tmp_path, **asked), LAST_TIME, seats=2)  # type: ignore[arg-type]  # one of the two fields
    assert refused.value.exit_code is ExitCode.SEATS_RUNNING


def test_port_80_is_left_out_of_addresses(tmp_path: Path) -> None:
    assert UpSettings(tmp_path, port=80).origin("api") == "http://api.localhost"


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_what_is_no_port_is_refused(port: int) -> None:
    with pytest.raises(InvalidInput, match=str(port)):
        check_port(port)


@pytest.mark.parametrize(
    "domain", ["", "a..b", "-a.test", "a_b.test", "127.0.0.1", "x" * 64, "a b", f"{'a.' * 100}test"]
)
def test_what_is_no_domain_is_refused(domain: str) -> None:
    with pytest.raises(InvalidInput, match="domain"):
        check_domain(domain)

"""A workshop that can't fit into this machine is made, and whoever makes and runs it is told, with the figures."""

from __future__ import annotations

import psutil

from tests.people import Person
from tests.running import Platform


def test_a_workshop_that_cannot_fit_warns_in_the_api_on_the_command_line_and_on_its_page(platform: Platform) -> None:
    made = platform.workshop(session="toomany", seats=9000)
    try:
        memory = next(said for said in made["warnings"] if "of memory" in said)
        gib = psutil.virtual_memory().total / 2**30
        assert "Seats for 9000 learners and 1 instructor" in memory
        assert f"the machine has {gib:.1f} GiB".replace(".0 GiB", " GiB") in memory
        assert any("of files" in said for said in made["warnings"]), "9001 seats' files don't fit on the disk either"
        said = platform.cli("workshop", "show", made["id"]).stdout
        assert "9000 learners and 1 instructor" in " ".join(said.split())
        with Person.new(platform, "admin", sign_up=False) as admin:
            admin.sign_in(platform.admin_password)
            page = admin.get(f"/services/workshops/{made['id']}")
            assert memory in page.text
        beside = platform.workshop(session="besides", seats=1)
        assert any("promised to" in said for said in beside["warnings"])
        platform.api("POST", f"/workshops/{beside['id']}/cancel", json={})
    finally:
        assert platform.api("POST", f"/workshops/{made['id']}/cancel", json={}).status_code == 200
    small = platform.workshop(session="small", seats=1)
    assert not any("9000" in said for said in small["warnings"])
    platform.api("POST", f"/workshops/{small['id']}/cancel", json={})

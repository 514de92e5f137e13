"""Every setting is in the documentation: a test for each trait of ours, in the page its component's settings are on."""

from __future__ import annotations

from pathlib import Path

import pytest
from traitlets import DefaultHandler
from traitlets.config import Configurable

from orchestra_hub.hub.app import OrchestraHub
from orchestra_hub.hub.authenticator import OrchestraNativeAuthenticator
from orchestra_hub.hub.proxy import OrchestraTraefikProxy
from orchestra_services.culler import OrchestraCuller
from orchestra_services.reconciler.app import ReconcilerApp
from orchestra_services.workshops.app import WorkshopsApp
from orchestra_spawner.local import OrchestraLocalSpawner
from orchestra_spawner.seat.extension import SeatExtension

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
PAGES: dict[type[Configurable], str] = {
    OrchestraHub: "settings.md",
    OrchestraLocalSpawner: "settings.md",
    OrchestraNativeAuthenticator: "settings.md",
    OrchestraTraefikProxy: "settings.md",
    SeatExtension: "settings.md",
    ReconcilerApp: "settings.md",
    OrchestraCuller: "settings.md",
    WorkshopsApp: "workshops-service.md",
}
ROOT = Path(__file__).parents[2]


def _settings(kind: type[Configurable]) -> list[str]:
    """A class's own traits, and those of its bases that it gives another default."""
    known = kind.class_traits(config=True)
    changed = {value.trait_name for value in vars(kind).values() if isinstance(value, DefaultHandler)}
    return sorted({*kind.class_own_traits(config=True), *(name for name in changed if name in known)})


EVERY = [(kind, name) for kind in PAGES for name in _settings(kind)]


@pytest.mark.parametrize(("kind", "name"), EVERY, ids=lambda value: getattr(value, "__name__", value))
def test_every_setting_is_described_and_documented(kind: type[Configurable], name: str) -> None:
    trait = kind.class_traits(config=True)[name]
    assert trait.help and len(trait.help.strip()) > 20
    text = (REFERENCE / PAGES[kind]).read_text(encoding="utf-8")
    _, found, rest = text.partition(f"`{kind.__name__}`")
    assert found, f"{kind.__name__} isn't in {PAGES[kind]}"
    assert f"| `{name}` |" in rest.partition("\n## ")[0], f"{kind.__name__}.{name} isn't in {PAGES[kind]}"


def test_no_class_with_settings_is_forgotten() -> None:
    """What defines a configurable trait is in the table above, or is a base of something that is."""
    found: set[str] = set()
    for folder in ("orchestra_hub", "services", "spawner"):
        for file in (ROOT / folder).rglob("*.py"):
            name = ""
            for line in file.read_text(encoding="utf-8").splitlines():
                if line.startswith("class "):
                    name = line.removeprefix("class ").partition("(")[0].rstrip(":")
                elif "config=True" in line:
                    found.add(name)
    assert found <= {kind.__name__ for kind in PAGES}

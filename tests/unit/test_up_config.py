"""What the parts are told: secrets, the hub's and Traefik's configuration, the children."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import toml
from jupyterhub.scopes import _intersect_expanded_scopes, expand_scopes, scope_definitions
from traitlets.config import Config

from orchestra_hub.cli.exit_codes import CommandRefused, ExitCode
from orchestra_hub.errors import InvalidInput
from orchestra_services.up.children import children, inherited
from orchestra_services.up.hub_config import UP_FILE_VARIABLE, apply, hub_config, load_roles, starts_at_once
from orchestra_services.up.preflight import make_folder
from orchestra_services.up.secrets import Tokens, cookie_secret_file, load_tokens, save_tokens, write_private
from orchestra_services.up.settings import DataFolder, InnerPorts, UpSettings
from orchestra_services.up.traefik import kept_routes, proxy_config, rendered

DOCS = Path(__file__).parents[2] / "docs" / "reference" / "scopes.md"
PORTS = InnerPorts(hub=20001, service=20002, proxy_api=20003)


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    made = DataFolder(tmp_path / "data")
    make_folder(made)
    return made


def test_secrets_are_made_once_and_private(folder: DataFolder) -> None:
    first = load_tokens(folder.secrets)
    cookie = cookie_secret_file(folder.secrets)
    kept = cookie.read_text()
    assert load_tokens(folder.secrets) == first
    assert cookie_secret_file(folder.secrets).read_text() == kept
    for path in folder.secrets.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600, path
    tokens = [value for value in first.model_dump().values() if value]
    assert len(set(tokens)) == len(tokens) == 5


def test_a_token_never_shows_when_tokens_are_printed(folder: DataFolder) -> None:
    tokens = load_tokens(folder.secrets)
    assert tokens.workshops not in repr(tokens)
    assert tokens.workshops not in f"{tokens}"


def test_a_new_token_is_added_to_the_others(folder: DataFolder) -> None:
    before = load_tokens(folder.secrets)
    save_tokens(folder.secrets, before, {"command_line": "c" * 64})
    assert load_tokens(folder.secrets) == before.model_copy(update={"command_line": "c" * 64})


def test_damaged_secrets_are_refused_without_showing_them(folder: DataFolder) -> None:
    write_private(folder.secrets / "tokens.json", '{"workshops": "short-secret"}')
    with pytest.raises(CommandRefused) as caught:
        load_tokens(folder.secrets)
    assert caught.value.exit_code is ExitCode.FOLDER_UNUSABLE
    assert "short-secret" not in str(caught.value)


def test_traefik_listens_on_this_machine_only_and_reports_nothing(folder: DataFolder) -> None:
    settings = UpSettings(folder.root)
    config = toml.loads(rendered(proxy_config(folder, settings.entry_addresses, PORTS)))
    assert {point["address"] for point in config["entryPoints"].values()} == {"127.0.0.1:8000", "127.0.0.1:20003"}
    assert config["global"] == {"checkNewVersion": False, "sendAnonymousUsage": False}
    assert config["providers"]["file"] == {"filename": str(folder.routes), "watch": True}
    assert "accessLog" not in config


def test_routes_of_running_seats_are_kept_and_an_old_api_password_is_not() -> None:
    routes = {
        "http": {
            "routers": {"route_api": {"rule": "old"}, "seat": {"rule": "Host(`x`)", "service": "s"}},
            "services": {"s": {"loadBalancer": {"servers": [{"url": "http://127.0.0.1:1"}]}}},
            "middlewares": {"auth_api": {"basicAuth": {"users": ["jupyterhub:old"]}}},
        },
        "jupyterhub": {"routes": {}},
    }
    kept = toml.loads(kept_routes(toml.dumps(routes)))
    assert set(kept) == {"http"}
    assert set(kept["http"]) == {"routers", "services"}
    assert set(kept["http"]["routers"]) == {"seat"}


@pytest.mark.parametrize("text", ["", "[http", "http = 3", "\x00"])
def test_damaged_routes_are_left_behind(text: str) -> None:
    assert kept_routes(text) == ""


def test_the_hub_is_told_what_up_was_asked_for(folder: DataFolder) -> None:
    settings = UpSettings(folder.root, port=9000, domain="hub.test", sign_up=False)
    values = hub_config(settings, folder, PORTS, Tokens(), root=False, cores=2)
    hub = values["JupyterHub"]
    assert hub["bind_url"] == "http://127.0.0.1:9000"
    assert hub["hub_bind_url"] == "http://127.0.0.1:20001"
    assert values["OrchestraHub"]["public_base_url"] == "http://hub.test:9000"
    assert values["Proxy"]["extra_routes"] == {"api.hub.test/": "http://127.0.0.1:20002"}
    assert values["OrchestraNativeAuthenticator"]["open_signup"] is False
    assert values["OrchestraNativeAuthenticator"]["enable_signup"] is False
    assert hub["cleanup_servers"] is False
    assert "allow_root" not in values["OrchestraLocalSpawner"]
    assert (
        hub_config(settings, folder, PORTS, Tokens(), root=True, cores=2)["OrchestraLocalSpawner"]["allow_root"] is True
    )


def test_the_configuration_file_hands_the_values_over(folder: DataFolder) -> None:
    values = hub_config(UpSettings(folder.root), folder, PORTS, Tokens(), root=False, cores=2)
    folder.up_file.write_text(json.dumps(values))
    config = Config()
    apply(config, {UP_FILE_VARIABLE: str(folder.up_file)})
    assert config.JupyterHub.db_url == f"sqlite:///{folder.root}/jupyterhub.sqlite"
    assert {service["name"] for service in config.JupyterHub.services} >= {"workshops", "reconciler", "culler"}


def test_the_configuration_file_says_when_up_did_not_start_the_hub() -> None:
    with pytest.raises(InvalidInput, match=UP_FILE_VARIABLE):
        apply(Config(), {})


def test_roles_name_real_scopes_and_no_service_is_an_admin() -> None:
    services = {"workshops", "reconciler", "culler", "supervisor"}
    assert {name for role in load_roles() for name in role.get("services", [])} == services
    for role in load_roles():
        for scope in role["scopes"]:
            assert scope.partition("!")[0] in scope_definitions, scope
        if role.get("services"):
            granted = expand_scopes(set(role["scopes"]))
            # whoever has these is an admin, by another way
            for power in ("admin:users", "admin:servers", "tokens", "users", "shares", "proxy"):
                assert not _intersect_expanded_scopes(granted, {power}), (role["name"], power)


def test_the_docs_give_a_reason_for_every_scope_of_a_service() -> None:
    sections = re.split(r"^## ", DOCS.read_text(), flags=re.MULTILINE)[1:]
    documented = {
        section.splitlines()[0]: set(re.findall(r"`([a-z:]+)`", _first_column(section))) for section in sections
    }
    titles = {"reconciler": "Reconciler", "workshops": "Workshops service", "culler": "Idle culler"}
    for role in load_roles():
        for name in role.get("services", []):
            if name in titles:
                assert set(role["scopes"]) == documented[titles[name]], name


def _first_column(section: str) -> str:
    return "\n".join(line.split("|")[1] for line in section.splitlines() if line.startswith("|"))


def test_children_get_nothing_of_an_outer_hub(tmp_path: Path) -> None:
    outer = {"JUPYTERHUB_API_TOKEN": "x", "ORCHESTRA_URL": "x", "JUPYTER_PATH": "x", "LANG": "C", "PATH": "/bin"}
    kept = inherited(outer | {"PYTHONPATH": ".:lib:/abs"}, "/venv/bin/python", tmp_path)
    assert not [name for name in kept if name.startswith(("JUPYTER", "ORCHESTRA"))]
    assert kept["PATH"] == "/venv/bin:/bin"
    assert kept["PYTHONPATH"] == f"{tmp_path}:{tmp_path}/lib:/abs"
    assert kept["LANG"] == "C"


def test_each_child_has_its_own_token_and_no_other(folder: DataFolder) -> None:
    tokens = Tokens()
    settings = UpSettings(folder.root)
    made = {child.name: child for child in children(settings, folder, PORTS, tokens, traefik="/t", base={"PATH": "/"})}
    assert list(made) == ["proxy", "hub", "workshops", "warden", "reconciler", "culler"]
    assert [name for name, child in made.items() if child.after_hub] == ["reconciler", "culler"]
    secrets = {value for value in tokens.model_dump().values() if value}
    for name, child in made.items():
        own = {getattr(tokens, name)} if name in ("workshops", "reconciler", "culler") else set()
        assert secrets & set(child.environment.values()) == own, name
        assert not [part for part in child.command if part in secrets]
        assert tokens.workshops not in repr(child)
    environment = made["workshops"].environment
    assert environment["JUPYTERHUB_API_URL"] == "http://127.0.0.1:20001/hub/api"
    assert environment["JUPYTERHUB_HOST"] == "http://app.localhost:8000"
    assert environment["ORCHESTRA_PUBLIC_URL"] == "http://localhost:8000"


def test_starts_at_once_follow_the_cores() -> None:
    assert [starts_at_once(cores) for cores in (1, 2, 4, 16)] == [4, 4, 8, 32]

"""Passwords and tokens between the parts, made once and kept in `secrets/` (0700, files 0600).

| file | what |
|---|---|
| `cookie_secret` | JupyterHub's; losing it signs everybody out |
| `tokens.json` | the services' Hub API tokens, Traefik's API password, the command line's token |
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestra_hub.cli.exit_codes import CommandRefused, ExitCode

__all__ = ["Tokens", "cookie_secret_file", "load_tokens", "save_tokens", "write_private"]


def _new_token() -> str:
    return secrets.token_hex(32)


class Tokens(BaseModel):
    """`tokens.json`. `command_line` is None until an admin exists it can belong to."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    workshops: str = Field(default_factory=_new_token, min_length=32)
    reconciler: str = Field(default_factory=_new_token, min_length=32)
    culler: str = Field(default_factory=_new_token, min_length=32)
    supervisor: str = Field(default_factory=_new_token, min_length=32)
    proxy_api: str = Field(default_factory=_new_token, min_length=32)
    command_line: str | None = None

    def __repr__(self) -> str:
        return "Tokens(...)"

    __str__ = __repr__


def write_private(path: Path, content: str | bytes) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    fresh.unlink(missing_ok=True)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def cookie_secret_file(folder: Path) -> Path:
    """The path of JupyterHub's cookie secret, made when it isn't there (32 bytes in hexadecimal)."""
    path = folder / "cookie_secret"
    if not path.exists():
        write_private(path, secrets.token_hex(32) + "\n")
    path.chmod(0o600)  # JupyterHub refuses one that others may read
    return path


def load_tokens(folder: Path) -> Tokens:
    """The tokens in `folder`, those that are missing made and written."""
    path = folder / "tokens.json"
    try:
        text = path.read_text() if path.exists() else "{}"
        tokens = Tokens.model_validate_json(text)
    except (OSError, ValidationError) as error:
        raise CommandRefused(
            f"{path} can't be read; bring it back from a backup, or remove it: new tokens are made then.",
            exit_code=ExitCode.FOLDER_UNUSABLE,
        ) from error
    save_tokens(folder, tokens)
    return tokens


def save_tokens(folder: Path, tokens: Tokens, changes: Mapping[str, str] | None = None) -> Tokens:
    """Write `tokens` with `changes`; returns what was written."""
    changed = tokens.model_copy(update=dict(changes or {}))
    write_private(folder / "tokens.json", changed.model_dump_json(indent=2) + "\n")
    return changed

"""What a command's exit code says; documented in `docs/reference/command-line.md`, checked by a test."""

from __future__ import annotations

from enum import IntEnum

from orchestra_hub.errors import Conflict, InvalidInput, NewerData, NotAllowed, NotFound, OrchestraError, Temporary

__all__ = ["CommandRefused", "ExitCode", "exit_code_of"]


class ExitCode(IntEnum):
    """Exit codes of `orchestra-hub`. 0 to 9 fit every command, 10 to 19 are `up`'s own refusals."""

    OK = 0
    UNEXPECTED = 1
    INVALID_INPUT = 2
    NOT_FOUND = 3
    NOT_ALLOWED = 4
    CONFLICT = 5
    TEMPORARY = 6
    PORT_IN_USE = 10
    FOLDER_UNUSABLE = 11
    DATA_NEWER = 12
    ALREADY_RUNNING = 13
    PROGRAM_MISSING = 14
    PYTHON_TOO_OLD = 15
    NOT_READY = 16
    SEATS_RUNNING = 17
    SEATS_NOT_APART = 18
    INTERRUPTED = 130


class CommandRefused(OrchestraError):
    """A command that won't go on; `exit_code` tells scripts why."""

    def __init__(self, message: str, *, exit_code: ExitCode) -> None:
        super().__init__(message)
        self.exit_code = exit_code


_BY_TYPE: tuple[tuple[type[OrchestraError], ExitCode], ...] = (
    (InvalidInput, ExitCode.INVALID_INPUT),
    (NotFound, ExitCode.NOT_FOUND),
    (NotAllowed, ExitCode.NOT_ALLOWED),
    (Conflict, ExitCode.CONFLICT),
    (Temporary, ExitCode.TEMPORARY),
    (NewerData, ExitCode.DATA_NEWER),
)


def exit_code_of(error: OrchestraError) -> ExitCode:
    """The exit code of a command that ended with `error`."""
    if isinstance(error, CommandRefused):
        return error.exit_code
    return next((code for kind, code in _BY_TYPE if isinstance(error, kind)), ExitCode.UNEXPECTED)

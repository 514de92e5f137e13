"""What runs inside a learner's JupyterLab: notices of the workshop's end, idle warnings, honest activity.

A Jupyter Server extension that the spawner enables with `launch_arguments()`; it is active only where
`ORCHESTRA_WORKSHOP_ID` is set, so the same image or environment serves ordinary servers unchanged. It brings its front
end along (`labextension/`, no build, nothing to install) and adds it to whichever of JupyterLab and Notebook runs.

Importing this package imports neither Jupyter Server nor anything of ours that is heavy: hub and spawner may ask for
`launch_arguments()`. Everything the seat knows comes from one hub handler, read with the seat's own server token.
"""

from __future__ import annotations

from typing import Any

__all__ = ["EXTENSION_NAME", "launch_arguments"]

EXTENSION_NAME = "orchestra-seat"


def launch_arguments() -> list[str]:
    """The command line a spawner appends for a seat; it adds to extensions enabled elsewhere and replaces none."""
    return [f"--ServerApp.jpserver_extensions={__name__}=True"]


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    """Jupyter Server's entry: imported here, so that the package itself stays light."""
    from orchestra_spawner.seat.extension import SeatExtension

    return [{"module": __name__, "app": SeatExtension}]

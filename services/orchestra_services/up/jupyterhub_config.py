"""The hub's configuration under `orchestra-hub up`: the values that `up` wrote, and nothing else."""

import os

from orchestra_services.up.hub_config import apply

apply(get_config(), os.environ)  # type: ignore[name-defined]  # noqa: F821  traitlets gives a configuration file this name

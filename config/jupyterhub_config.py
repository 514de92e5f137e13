"""An example of a hub configuration of one's own, for `orchestra-hub up --config jupyterhub_config.py`.

`apply` sets all that `orchestra-hub up` needs: addresses, databases, services and their roles, the proxy. What comes
after it may change anything else.
"""

import os

from orchestra_services.up.hub_config import apply

c = get_config()  # type: ignore[name-defined]  # noqa: F821  traitlets gives a configuration file this name
apply(c, os.environ)

# All seats of a workshop on one host, `{id}.{domain}`, instead of one each. Read what that gives up first:
# docs/explanation/architecture.md.
# c.OrchestraHub.seat_origin = "workshop"

# Passwords of at least 12 characters at sign-up.
# c.OrchestraNativeAuthenticator.minimum_password_length = 12

# Days until a sign-in is asked for again.
# c.JupyterHub.cookie_max_age_days = 3

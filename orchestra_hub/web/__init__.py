"""The look that the hub's pages and the service's pages share: base template, stylesheet, script."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files

__all__ = [
    "CONTENT_SECURITY_POLICY",
    "from_our_pages",
    "policy_for_jupyterhub",
    "policy_for_sign_in",
    "static_folder",
    "template_folder",
]

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""For pages of ours: nothing inline, nothing from elsewhere (CSP level 3)."""


def from_our_pages(headers: Mapping[str, str], origin: str) -> bool:
    """Whether a browser says that a page of `origin` (and no other, as a seat's) asked for what it asks for.

    For what a mere GET does. Browsers leave out `Sec-Fetch-Site` over plain http except to this machine: then the
    referrer tells, and none is none of ours.
    """
    site = headers.get("Sec-Fetch-Site")
    return site == "same-origin" if site else headers.get("Referer", "").startswith(f"{origin}/")


def policy_for_sign_in(origins: str) -> str:
    """The same for sign-in forms: after a sign-in the browser is led on to a host below ours, `https://*.example.org`,
    and browsers hold that redirect against `form-action`."""
    return CONTENT_SECURITY_POLICY.replace("form-action 'self'", f"form-action 'self' {origins}")


def policy_for_jupyterhub(origins: str) -> str:
    """For JupyterHub's own pages, which have scripts and styles inline: nothing from elsewhere, and forms lead to hosts
    below ours at most (after consent to open a server)."""
    return (
        "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
        f"img-src 'self' data:; font-src 'self' data:; connect-src 'self'; form-action 'self' {origins}; "
        "base-uri 'none'; object-src 'none'"
    )


def template_folder() -> str:
    """Folder of the shared Jinja templates."""
    return str(files("orchestra_hub.web") / "templates")


def static_folder() -> str:
    """Folder of the shared static files."""
    return str(files("orchestra_hub.web") / "static")

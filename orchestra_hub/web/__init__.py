"""The look that the hub's pages and the service's pages share: base template, stylesheet, script."""

from __future__ import annotations

from importlib.resources import files

__all__ = ["CONTENT_SECURITY_POLICY", "policy_for_sign_in", "static_folder", "template_folder"]

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""For pages of ours: nothing inline, nothing from elsewhere (CSP level 3)."""


def policy_for_sign_in(origins: str) -> str:
    """The same for sign-in forms: after a sign-in the browser is led on to a host below ours, `https://*.example.org`,
    and browsers hold that redirect against `form-action`."""
    return CONTENT_SECURITY_POLICY.replace("form-action 'self'", f"form-action 'self' {origins}")


def template_folder() -> str:
    """Folder of the shared Jinja templates."""
    return str(files("orchestra_hub.web") / "templates")


def static_folder() -> str:
    """Folder of the shared static files."""
    return str(files("orchestra_hub.web") / "static")

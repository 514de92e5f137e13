"""Orchestra Hub: one JupyterHub as a workshop platform."""

__version__ = "0.1.0"

__all__ = ["__version__"]

"""The hub: JupyterHub with workshops. It knows a workshop only through its Hub group and that group's properties."""

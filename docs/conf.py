"""Sphinx configuration. Warnings are errors (`./orchestra check`)."""

project = "Orchestra Hub"
author = "the Orchestra Hub developers"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "pydata_sphinx_theme"
html_title = "Orchestra Hub"
html_theme_options = {"navigation_with_keys": False, "secondary_sidebar_items": ["page-toc"]}
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nitpicky = True

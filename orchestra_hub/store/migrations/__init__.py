"""Alembic's environment, run by `orchestra_hub.store.migrating` with no `alembic.ini`."""

"""`python -m orchestra_services.reconciler`."""

from __future__ import annotations

from orchestra_services.reconciler.app import ReconcilerApp

if __name__ == "__main__":
    ReconcilerApp.launch_instance()

"""`python -m orchestra_hub.hub`: the hub's process."""

from orchestra_hub.hub.app import OrchestraHub

if __name__ == "__main__":
    OrchestraHub.launch_instance()

"""`python -m orchestra_hub.hub`: the hub's process."""

import logging

from orchestra_hub.hub.app import OrchestraHub

if __name__ == "__main__":
    logging.raiseExceptions = False  # a line that a full disk has no room for is lost, not told of in the log
    OrchestraHub.launch_instance()

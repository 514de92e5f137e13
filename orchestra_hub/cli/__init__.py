"""The command line: `orchestra-hub`. Commands talk to the API (`OrchestraClient`); accounts, to the hub's database.

`up` is put beside these commands by `orchestra_services.main`.
"""

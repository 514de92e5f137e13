"""One module per revision. A new one also goes to the end of `migrating.REVISIONS`."""

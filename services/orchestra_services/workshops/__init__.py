"""The workshops service: the REST API on `api.{domain}` and the people's pages on `app.{domain}`.

```
__main__ → app (settings, start, stop) → server (which host serves what)
    ├── api (tornado handlers made from the table) ─┐
    ├── openapi (the document made from the table) ─┴→ routes (the table) → actions, people, seats, export
    └── pages (what people see) ──────────────────────────────────────────→ actions, people, seats, export
auth (who asks) · problems (error → status, one table) · bounded (no body is larger than 1 MiB)
```

Whatever takes a decision is in `orchestra_hub` (life cycle, permissions) or the store; here it is asked for, told to
the hub at once, and shown.
"""

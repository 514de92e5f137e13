"""`orchestra-hub up`: everything on one machine, supervised.

| module | what it knows |
|---|---|
| `settings` | what was asked for, what `orchestra.json` holds, where files are (pure) |
| `preflight` | every reason not to start, as one line and an exit code |
| `secrets` | passwords between the parts, kept in `secrets/` |
| `hub_config`, `traefik` | what the hub and the proxy are told (pure) |
| `children` | which processes there are (pure) |
| `tied` | the few lines each child begins in: it ends when `up` does |
| `supervisor` | starting, watching, starting again, ending them |
| `logs` | keeping logs small, a crashed child's last words |
| `readiness`, `demo` | when addresses may be shown, the demo workshop |
| `command` | the order of it all |
"""

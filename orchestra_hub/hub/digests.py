"""`GET /hub/api/orchestra/workshops`: all workshops' groups in a few small answers, for the reconciler's sweep.

A digest stands for a group's properties and members; two that are equal need no closer look. Ten thousand groups are
some twenty answers of a few milliseconds each: rows are read as they are, no object is made of them.
"""

from __future__ import annotations

import json
from typing import Any

from jupyterhub import orm
from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.scopes import Scope
from sqlalchemy import String, select, type_coerce
from tornado import web

from orchestra_hub.group_digest import group_digest
from orchestra_hub.ids import is_workshop_id, server_name

__all__ = ["PAGE", "digest_handlers"]

PAGE = 500


class WorkshopsHandler(APIHandler):  # type: ignore[misc]  # jupyterhub has no types
    """A page of workshops' groups."""

    def get(self) -> None:
        """`{"items": [{"id", "digest", "running", "strangers"}], "next": id or null}`, in order of id.

        `running` are seats that start, run or stop; `strangers` are those of people who aren't in the group.
        """
        allowed = all(self.parsed_scopes.get(scope) is Scope.ALL for scope in ("read:groups", "read:servers"))
        if not allowed:
            raise web.HTTPError(403, "Listing workshops needs the scopes read:groups and read:servers on all.")
        groups = orm.Group.__table__
        properties = type_coerce(groups.c.properties, String)
        wanted = select(groups.c.id, groups.c.name, properties).where(groups.c.name > self.get_argument("after", ""))
        rows = self.db.execute(wanted.order_by(groups.c.name).limit(PAGE)).all()
        members = self._members([row[0] for row in rows])
        running = self._running()
        items = []
        for group_id, name, text in rows:
            if not is_workshop_id(name):
                continue
            there = members.get(group_id, set())
            active = running.get(server_name(name), set())
            items.append(
                {
                    "id": name,
                    "digest": group_digest(text or "", there),
                    "running": len(active),
                    "strangers": len(active - there),
                }
            )
        following = rows[-1][1] if len(rows) == PAGE else None
        self.set_header("Cache-Control", "no-store")
        self.write(json.dumps({"items": items, "next": following}))

    def _members(self, group_ids: list[int]) -> dict[int, set[str]]:
        found: dict[int, set[str]] = {}
        joined = orm.user_group_map.join(orm.User.__table__, orm.user_group_map.c.user_id == orm.User.__table__.c.id)
        wanted = select(orm.user_group_map.c.group_id, orm.User.__table__.c.name).select_from(joined)
        if group_ids:
            wanted = wanted.where(orm.user_group_map.c.group_id.in_(group_ids))
            for group_id, name in self.db.execute(wanted):
                found.setdefault(group_id, set()).add(name)
        return found

    def _running(self) -> dict[str, set[str]]:
        """By the servers' name, the people whose server of that name is active."""
        found: dict[str, set[str]] = {}
        for user in self.users.values():
            for name, spawner in user.spawners.items():
                if name and (spawner.active or spawner.pending):
                    found.setdefault(name, set()).add(user.name)
        return found

    def _record_activity(self, obj: Any, timestamp: Any = None) -> bool:
        return False


def digest_handlers() -> list[tuple[Any, ...]]:
    """Routes below `/hub`."""
    return [(r"/api/orchestra/workshops", WorkshopsHandler)]

"""The first tables, with the triggers that keep events and workshops from being rewritten."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from orchestra_hub.store.models import UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_BIG_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _text(name: str, *, nullable: bool = False, length: int | None = None) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), nullable=nullable)


def _moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, UtcDateTime(), nullable=nullable)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False)


def _of_workshop(*, key: bool = True) -> sa.Column[str]:
    return sa.Column("workshop_id", sa.String(63), sa.ForeignKey("workshops.id"), primary_key=key, nullable=False)


def upgrade() -> None:
    """Makes everything."""
    _make_workshops()
    _make_people()
    _make_the_rest()
    if op.get_bind().dialect.name == "sqlite":
        _hold_on_sqlite()
    else:
        _hold_on_postgresql()


def _make_workshops() -> None:
    op.create_table(
        "workshops",
        sa.Column("id", sa.String(63), primary_key=True),
        _text("title"),
        _text("owner", nullable=True),
        _text("owner_key", nullable=True),
        _text("teacher"),
        sa.Column("template", sa.JSON, nullable=False),
        _text("state", length=16),
        *(_moment(name) for name in ("opens_at", "expires_at", "deadline", "purge_at")),
        *(_number(name) for name in ("retention_s", "lead_time_s", "warning_s", "idle_timeout_s", "seats")),
        _text("join_policy", length=16),
        _text("join_code", nullable=True),
        _moment("prepared_at", nullable=True),
        _moment("cancelled_at", nullable=True),
        sa.Column("ended_early", sa.Boolean, nullable=False),
        _moment("created_at"),
        _moment("changed_at"),
        _number("version"),
        _number("generation"),
        _text("trouble", nullable=True),
        _number("attempts"),
        _moment("due_at", nullable=True),
        sa.Column("purge_record", sa.JSON, nullable=True),
        sa.CheckConstraint("expires_at <= deadline", name="workshops_end_by_deadline"),
        sa.CheckConstraint("seats >= 1", name="workshops_have_seats"),
    )
    op.create_index("workshops_by_due_at", "workshops", ["due_at"])
    op.create_index("workshops_by_age", "workshops", ["created_at", "id"])
    op.create_index("workshops_by_owner", "workshops", ["owner_key"])
    op.create_table(
        "contents",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )
    op.create_table("counts", _of_workshop(), sa.Column("name", sa.String(40), primary_key=True), _number("value"))


def _make_people() -> None:
    op.create_table(
        "enrolments",
        _of_workshop(),
        sa.Column("user_name", sa.String, primary_key=True),
        _text("account_key"),
        _text("role", length=16),
        _moment("joined_at"),
        sa.Column("in_hub", sa.Boolean, nullable=False),
    )
    op.create_index("enrolments_by_user", "enrolments", ["user_name"])
    op.create_table(
        "invitations",
        sa.Column("id", _BIG_KEY, primary_key=True),
        _of_workshop(key=False),
        _text("label"),
        _text("role", length=16),
        _text("token_hash", length=64),
        _moment("created_at"),
        _moment("used_at", nullable=True),
    )
    op.create_index("invitations_by_workshop", "invitations", ["workshop_id"])
    op.create_table("pseudonym_keys", _of_workshop(), sa.Column("key", sa.LargeBinary, nullable=False))


def _make_the_rest() -> None:
    op.create_table(
        "events",
        sa.Column("id", _BIG_KEY, primary_key=True),
        _of_workshop(key=False),
        _moment("at"),
        _text("kind", length=40),
        _text("actor", length=40),
        _text("subject", nullable=True, length=40),
        sa.Column("detail", sa.JSON, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("events_by_workshop", "events", ["workshop_id", "id"])
    op.create_table(
        "leases",
        sa.Column("name", sa.String(40), primary_key=True),
        _text("holder"),
        sa.Column("fence", sa.BigInteger, nullable=False),
        _moment("expires_at"),
    )
    fences = op.create_table(
        "fences",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("last", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(fences, [{"id": 1, "last": 0}])


def _hold_on_sqlite() -> None:
    for table, what, says in (
        ("events", "UPDATE", "events are append-only"),
        ("events", "DELETE", "events are append-only"),
        ("workshops", "DELETE", "workshops are never deleted"),
    ):
        refusal = f"BEGIN SELECT RAISE(ABORT, '{says}'); END"
        op.execute(f"CREATE TRIGGER {table}_no_{what.lower()} BEFORE {what} ON {table} {refusal}")


def _hold_on_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION orchestra_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION '% on % is refused: its rows stay', TG_OP, TG_TABLE_NAME "
        "USING ERRCODE = 'restrict_violation'; END $$"
    )
    for table, what in (("events", "UPDATE OR DELETE OR TRUNCATE"), ("workshops", "DELETE OR TRUNCATE")):
        op.execute(
            f"CREATE TRIGGER {table}_stay BEFORE {what} ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION orchestra_refuse()"
        )

"""The first schema.

Cost: metadata
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

SQLITE_APPEND_ONLY = """
CREATE TRIGGER audit_log_{act} BEFORE {act} ON audit_log
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END
"""
POSTGRESQL_REFUSE = """
CREATE FUNCTION audit_log_refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$
"""
POSTGRESQL_APPEND_ONLY = """
CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
FOR EACH STATEMENT EXECUTE FUNCTION audit_log_refuse()
"""


def upgrade() -> None:
    _flows()
    _work()
    _incidents()
    _replays()
    _access()
    _append_only()


def _flows() -> None:
    op.create_table(
        "flow_versions",
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column("version", LONG, autoincrement=False, nullable=False),
        sa.Column("in_force_from", LONG, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("canonical", sa.Text(), nullable=False),
        sa.Column("created_at", LONG, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("deleted_at", LONG, nullable=True),
        sa.PrimaryKeyConstraint("flow", "version", name=op.f("pk_flow_versions")),
    )
    op.create_table(
        "checkpoint_bits",
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column("hop", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("bit", LONG, nullable=False),
        sa.PrimaryKeyConstraint("flow", "hop", "stage", name=op.f("pk_checkpoint_bits")),
        sa.UniqueConstraint("flow", "bit", name=op.f("uq_checkpoint_bits_flow_bit")),
        sa.CheckConstraint("bit BETWEEN 0 AND 63", name=op.f("ck_checkpoint_bits_bit")),
    )
    op.create_table(
        "hop_bits",
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column("hop", sa.Text(), nullable=False),
        sa.Column("bit", LONG, nullable=False),
        sa.PrimaryKeyConstraint("flow", "hop", name=op.f("pk_hop_bits")),
        sa.UniqueConstraint("flow", "bit", name=op.f("uq_hop_bits_flow_bit")),
        sa.CheckConstraint("bit BETWEEN 0 AND 63", name=op.f("ck_hop_bits_bit")),
    )


def _work() -> None:
    op.create_table(
        "passes",
        sa.Column("number", LONG, autoincrement=False, nullable=False),
        sa.Column("started_at", LONG, nullable=False),
        sa.Column("bounds", sa.JSON(), nullable=False),
        sa.Column("finished_at", LONG, nullable=True),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_passes")),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("token", LONG, nullable=False),
        sa.Column("expires_at", LONG, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.create_table(
        "settings",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_settings")),
    )


def _incidents() -> None:
    op.create_table(
        "incidents",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column("hop", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("opened_at", LONG, nullable=False),
        sa.Column("first_finding_at", LONG, nullable=False),
        sa.Column("last_finding_at", LONG, nullable=False),
        sa.Column("open", LONG, nullable=False),
        sa.Column("recovered", LONG, nullable=False),
        sa.Column("recovered_by_itself", LONG, nullable=False),
        sa.Column("withdrawn", LONG, nullable=False),
        sa.Column("parked", LONG, nullable=False),
        sa.Column("abandoned", LONG, nullable=False),
        sa.Column("total", LONG, nullable=False),
        sa.Column("detect_p50", LONG, nullable=True),
        sa.Column("detect_p90", LONG, nullable=True),
        sa.Column("recover_p50", LONG, nullable=True),
        sa.Column("recover_p90", LONG, nullable=True),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("acknowledged_at", LONG, nullable=True),
        sa.Column("acknowledged_by", sa.Text(), nullable=False),
        sa.Column("resolved_at", LONG, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_incidents")),
    )
    op.create_index(op.f("ix_incidents_flow_status"), "incidents", ["flow", "status"])
    op.create_index(op.f("ix_incidents_opened_at_id"), "incidents", ["opened_at", "id"])
    op.create_table(
        "incident_entries",
        sa.Column("number", LONG, nullable=False),
        sa.Column("incident_id", sa.Text(), nullable=False),
        sa.Column("at", LONG, nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["incident_id"], ["incidents.id"], name=op.f("fk_incident_entries_incident_id")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_incident_entries")),
    )
    op.create_index(op.f("ix_incident_entries_incident_id"), "incident_entries", ["incident_id"])


def _replays() -> None:
    op.create_table(
        "replays",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column("incident_id", sa.Text(), nullable=False),
        sa.Column("selection", sa.JSON(), nullable=False),
        sa.Column("plan", sa.JSON(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("rate", sa.Double(), nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("approved_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("created_at", LONG, nullable=False),
        sa.Column("approved_at", LONG, nullable=True),
        sa.Column("started_at", LONG, nullable=True),
        sa.Column("finished_at", LONG, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replays")),
    )
    op.create_index(op.f("ix_replays_created_at_id"), "replays", ["created_at", "id"])
    op.create_index(op.f("ix_replays_flow"), "replays", ["flow"])
    op.create_index(op.f("ix_replays_status"), "replays", ["status"])
    op.create_table(
        "replay_messages",
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("replay_id", sa.Text(), nullable=False),
        sa.Column("ordinal", LONG, nullable=False),
        sa.Column("attempt", LONG, nullable=False),
        sa.Column("locator", sa.JSON(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("not_before", LONG, nullable=False),
        sa.Column("claimed_by", sa.Text(), nullable=False),
        sa.Column("claimed_at", LONG, nullable=True),
        sa.Column("claim_expires_at", LONG, nullable=True),
        sa.Column("sent_at", LONG, nullable=True),
        sa.Column("changed_at", LONG, nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["replay_id"], ["replays.id"], name=op.f("fk_replay_messages_replay_id")),
        sa.PrimaryKeyConstraint("message_id", "replay_id", name=op.f("pk_replay_messages")),
    )
    op.create_index(
        op.f("ix_replay_messages_replay_id_state_ordinal_message_id"),
        "replay_messages",
        ["replay_id", "state", "ordinal", "message_id"],
    )
    claimed = sa.text("state = 'claimed'")
    op.create_index(
        op.f("ix_replay_messages_claim_expires_at"),
        "replay_messages",
        ["claim_expires_at"],
        sqlite_where=claimed,
        postgresql_where=claimed,
    )


def _access() -> None:
    op.create_table(
        "tokens",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", LONG, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("expires_at", LONG, nullable=True),
        sa.Column("revoked_at", LONG, nullable=True),
        sa.Column("last_used_at", LONG, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("status", LONG, nullable=False),
        sa.Column("response", sa.Text(), nullable=False),
        sa.Column("created_at", LONG, nullable=False),
        sa.Column("expires_at", LONG, nullable=False),
        sa.PrimaryKeyConstraint("principal", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(op.f("ix_idempotency_keys_expires_at"), "idempotency_keys", ["expires_at"])
    op.create_table(
        "audit_log",
        sa.Column("number", LONG, autoincrement=False, nullable=False),
        sa.Column("at", LONG, nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("previous", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit_log")),
    )
    op.create_index(op.f("ix_audit_log_subject_number"), "audit_log", ["subject", "number"])


def _append_only() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(POSTGRESQL_REFUSE)
        op.execute(POSTGRESQL_APPEND_ONLY)
        return
    for act in ("UPDATE", "DELETE"):
        op.execute(SQLITE_APPEND_ONLY.format(act=act))

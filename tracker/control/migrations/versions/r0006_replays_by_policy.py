"""Replays found by flow and approval, which is how a budget is counted, and by incident.

Cost: metadata
"""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_index("ix_replays_flow_approved_at", "replays", ["flow", "approved_at"])
    op.create_index("ix_replays_incident_id", "replays", ["incident_id"])
    op.drop_index("ix_replays_flow", "replays")

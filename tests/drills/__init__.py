"""Loss drills: real brokers lose real messages, and what the tracker names is compared, id by id, with what the brokers
themselves say. Each prints one line of JSON and ends with 0 only when both agree.

    python -m tests.drills.outbox_relay --json
"""

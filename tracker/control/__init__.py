"""The small transactional state: specs, incidents, replays, leases, tokens, audit log."""

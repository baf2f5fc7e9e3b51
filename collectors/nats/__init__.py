"""NATS JetStream: see docs/collectors/nats.md."""

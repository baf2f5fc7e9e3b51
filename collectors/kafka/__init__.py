"""Kafka: what runs beside a cluster, and both ends of a replay."""

"""Redis Streams: entries, deliveries and acks, seen as a replica or by polling; replay from a stream and into one."""

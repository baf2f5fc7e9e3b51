"""ActiveMQ Classic: see docs/collectors/activemq.md."""

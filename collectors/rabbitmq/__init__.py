"""RabbitMQ: what runs beside a node, and the sending end of a replay."""

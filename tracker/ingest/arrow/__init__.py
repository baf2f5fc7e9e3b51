"""Arrow IPC streams -> columns."""

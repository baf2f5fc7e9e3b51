"""Lines of JSON -> columns."""

"""The HTTP face; thin: parse, call, answer."""

"""The routes, one file per kind of thing. Thin: parse, call, answer."""

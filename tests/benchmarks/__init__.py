"""Measurements behind the decisions in `docs/adr/`. Run by hand, one command each; not part of `make test`."""

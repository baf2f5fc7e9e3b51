"""The commands, and the composition root that builds and joins everything."""

"""Real servers for tests: each started from its binary on free ports of 127.0.0.1, in a folder of its own."""

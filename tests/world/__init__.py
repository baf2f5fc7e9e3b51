"""A small installation inside the test process: the real embedded engine, a real control database, a clock in hand."""

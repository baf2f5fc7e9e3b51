"""A seeded world that knows the truth by what it did."""

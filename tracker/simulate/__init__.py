"""A seeded world of producers, brokers, consumers and collectors that knows the truth by what it did.

It talks to the service through the public API only, and never asks `judge`: what ought to be found follows from what
the world did, whom it let report it, and when that reached the tracker.
"""

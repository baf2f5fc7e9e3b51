"""Mutation testing: small faults are put into the code that makes verdicts, one at a time, and a test has to fail.

    python -m tests.mutation [--target judge|sql|plain] [--only TEXT] [--json]

Never in place: everything happens in a copy of the tree in a temporary folder. See docs/mutation.md.
"""

"""Wire formats to columns to the store; what is malformed goes to quarantine."""

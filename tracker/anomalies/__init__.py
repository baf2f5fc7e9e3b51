"""What is not as usual: volume, latency, loss, duplicates and coverage, held against their season."""

"""The vocabulary: events, flow specs, coverage, verdicts and `judge`. Pure: nothing here does I/O."""

"""Canaries and game days, as far as they are no input and output: the lane, what a drill expects, what it found."""

"""What runs beside a hop: it reads, decodes and commits; the runner and the emitter do the rest."""

"""The parts of `threads`: one thread, the report on one that does not stop, ticks, and signals."""

"""The parts of the signal: what was set, who is called, who waits, who asks, and the descriptor. `_stop` puts them together."""

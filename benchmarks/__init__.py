"""What the library costs and how soon it stops, as ratios to the plain counterpart in one alternating run."""

"""Training: the loop, its optimisers, its checkpoints, and what it shows of itself."""

"""From region probabilities to partitions: dense CRF, edge maps, ultrametric contour maps."""

"""Segmenters as files that need neither their training code nor, but for .pt2, PyTorch."""

"""Objectives: pure functions of tensors, one scalar each; no networks, no settings, no state."""

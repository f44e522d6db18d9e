"""Scores of segmenters against ground truth; the only place that looks at it."""

"""Suites of rows, methods by data sets by seeds, and the tables and pages made of them."""

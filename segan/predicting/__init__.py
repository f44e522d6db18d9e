"""The parts of prediction: what to read, how to segment it, and how to keep all of it busy."""

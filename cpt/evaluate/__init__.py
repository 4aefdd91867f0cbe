"""Evaluation by generation, and what follows from the records: matrices, metrics, transitions, intervals."""

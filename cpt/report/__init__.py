"""The report: one HTML page and one summary.json, built from a run folder's files alone."""

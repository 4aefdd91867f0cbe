"""Evaluators: what is measured on a finished policy. Each is one file here and one line in `registry`."""

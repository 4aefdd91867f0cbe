"""Scores that another program has made: its logs are read into our records, with their source named."""

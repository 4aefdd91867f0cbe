"""The pages on rewards."""

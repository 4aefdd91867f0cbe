"""Policies: where they are, how they load, how the built-in one is made."""

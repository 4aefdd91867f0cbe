"""Policies: where they are, how they load, how they are adapted and saved."""

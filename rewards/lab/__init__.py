"""Rewards put to the test: attacks, audit, saved runs, agreement."""

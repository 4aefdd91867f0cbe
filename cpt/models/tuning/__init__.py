"""Kinds of tuning: which parameters of a policy are trained. One file a kind, and its name in the registry."""

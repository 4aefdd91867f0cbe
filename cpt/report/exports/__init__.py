"""A run's records as the logs of other programs."""

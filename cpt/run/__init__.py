"""From a plan to a finished run folder: the stage loop, Ray, progress."""

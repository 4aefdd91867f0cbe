"""What ends a run."""


class RunFailed(RuntimeError):
    """A run can't go on. The message is for the user, who gets it without a traceback; exit code 1."""

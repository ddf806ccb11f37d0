"""The command line's promises: quick help, exit codes, one error that names the thing and says what to do."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgepack import cli

COMMAND = [sys.executable, "-m", "edgepack"]


def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, timeout=120)


def test_help_imports_no_framework_and_nothing_heavy():
    code = (
        "import sys; from edgepack.cli import run; run(['--help']);"
        "heavy = {'torch', 'tensorflow', 'keras', 'onnx', 'onnxruntime', 'jax', 'numpy', 'paramiko'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "verb", ["push", "bench", "status", "rollback", "inspect", "target list", "board list", "profile list"]
)
def test_no_delivery_command_imports_a_framework(verb):
    code = (
        f"import sys; from edgepack.cli import run; run({verb.split()} + ['--help']); run({verb.split()} + ['nothing'] * 2);"
        "heavy = {'torch', 'tensorflow', 'keras', 'onnx', 'onnxruntime', 'jax', 'ai_edge_litert'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_command_takes_json_and_says_what_it_does():
    for verb in ("plan", "build", "inspect", "verify", "push", "bench", "compare", "rollback", "status"):
        done = run(verb, "--help")
        assert done.returncode == 0 and "--json" in done.stdout, verb


def test_profiles_as_json_and_with_origins():
    names = {profile["name"] for profile in json.loads(run("profile", "list", "--json").stdout)["profiles"]}
    assert "rpi4" in names
    shown = json.loads(run("profile", "show", "rpi4", "--json").stdout)
    origins = {origin["key"]: origin["origin"] for origin in shown["origins"]}
    assert origins["device.cpu"] == "rpi4.toml" and origins["device.machine"] == "linux-aarch64.toml"
    assert origins["runtimes.litert.provider"] == "default"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


BAD_PROJECTS = {
    "an unknown key": (
        'name = "net"\nversoin = "1.0.0"\n',
        3,
        ["edgepack.toml", "versoin", "perhaps you meant 'version'"],
    ),
    "an unknown key in a table": (
        '[data]\ncalibraton = "x"\n',
        3,
        ["data.calibraton", "perhaps you meant 'calibration'"],
    ),
    "no TOML at all": ("name = \n", 3, ["edgepack.toml", "not valid TOML", "line 1"]),
    "a wrong type": ('[build]\nepochs = "many"\n', 3, ["build.epochs", "int"]),
    "a version that is none": ('version = "1"\n[model]\nsource = "x.onnx"\n', 3, ["'1'", "MAJOR.MINOR.PATCH"]),
    "a name that could leave its folder": (
        'name = "../evil"\n[model]\nsource = "x.onnx"\n',
        3,
        ["../evil", "choose another"],
    ),
}


@pytest.mark.parametrize("case", BAD_PROJECTS)
def test_a_bad_project_is_named(tmp_path, case):
    text, code, hints = BAD_PROJECTS[case]
    write(tmp_path / "edgepack.toml", text)
    done = run("plan", tmp_path, "-p", "rpi4")
    assert done.returncode == code, done.stderr
    assert all(hint in done.stderr for hint in hints), done.stderr
    assert "Traceback" not in done.stderr and not done.stdout


def test_wrong_usage_exits_2():
    for arguments in (
        ("build",),
        ("profile", "show", "raspi4"),
        ("push", "x.edgepack"),
        ("nonsense",),
        ("plan", "x.onnx"),
    ):
        done = run(*arguments)
        assert done.returncode == 2, (arguments, done.stderr)
        assert done.stderr and "Traceback" not in done.stderr


def test_a_missing_model_is_named_and_nothing_is_written(tmp_path):
    done = run("build", "nowhere.onnx", "-p", "rpi4", "-o", tmp_path / "out")
    assert done.returncode == 3 and "nowhere.onnx" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_our_own_bug_exits_70_and_shows_its_traceback_only_with_debug(tmp_path):
    code = (
        "import sys; from edgepack.cli import app, run; app.app.command('boom')(lambda: 1 / 0); sys.exit(run(['boom']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 70 and "Traceback" not in done.stderr and "--debug" in done.stderr


def test_a_full_disk_is_not_our_bug_even_where_no_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """What `write` raises knows no file's name, unlike what `open` does."""
    assert cli._explain_foreign(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) == 3
    said = capsys.readouterr().err
    assert "No space left on device" in said and "make room" in said and "internal" not in said

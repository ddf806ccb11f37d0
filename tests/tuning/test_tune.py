"""`edgepack tune` from the outside: a front, a bundle scored on samples that the search never saw, and workers that may die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edgepack.bundle import open_bundle
from edgepack.digest import Digest
from edgepack.errors import BoardError
from edgepack.tuning.space import space_of
from edgepack.tuning.study import open_study

from .test_space import plan_for

pytestmark = pytest.mark.frameworks
FLAGS = (
    "net.onnx",
    "-p",
    "here.toml",
    "--calibration",
    "calibration.npz",
    "--evaluation",
    "evaluation.npz",
    "--name",
    "digits",
)


TRIALS = 6
"""Four are what build would make, the others the sampler's."""


def start(folder: Path, home: Path, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "edgepack", "tune", *FLAGS, "--metric", "metric.py:top1", *map(str, arguments)]
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "EDGEPACK_HOME": str(home), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(worker: subprocess.Popen[str]) -> dict:
    out, err = worker.communicate(timeout=300)
    assert worker.returncode == 0, err
    return json.loads(out)


@pytest.fixture(scope="module")
def searched(digits: Path, test_home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """A search, in a home of its own."""
    home = tmp_path_factory.mktemp("home")
    (home / "wheels").symlink_to(test_home / "wheels")
    return home, finish(start(digits, home, "-o", "out", "--json", "--report", "tuned.html", "--trials", TRIALS))


def test_a_search_ends_in_a_front_and_a_bundle(digits: Path, searched: tuple[Path, dict]) -> None:
    _, document = searched
    trials = document["trials"]
    assert len(trials) == TRIALS == len({trial["key"] for trial in trials}) < document["recipes"]
    assert document["cost"] == "expected" and {trial["latency_ms"] for trial in trials} == {None}
    front = [(trial["drop"], trial["size_bytes"]) for trial in trials if trial["front"]]
    assert front and min(trial["size_bytes"] for trial in trials) <= min(size for _, size in front)
    bundle = document["bundle"]
    kept = {variant["id"] for variant in bundle["variants"] if variant["status"] != "rejected"}
    opened = open_bundle(digits / bundle["path"])
    opened.verify()
    assert {record.id for record in opened.manifest.variants} == kept and bundle["default"] in kept


def test_the_page_shows_every_trial_and_loads_nothing(digits: Path, searched: tuple[Path, dict]) -> None:
    _, document = searched
    page = (digits / "tuned.html").read_text()
    assert "What the search found" in page and f"{len(document['trials'])} trials over" in page
    assert "Accuracy against size of every trial" in page and "which it never saw" in page
    assert "expected cost: nothing was measured" in page
    assert "<script" not in page and "http://" not in page.replace("http://www.w3.org/", "")


def test_what_the_bundle_says_comes_from_samples_that_the_search_never_saw(
    digits: Path, searched: tuple[Path, dict], tmp_path: Path
) -> None:
    """Every number of the bundle is that of its own file on the half that the search did not score on."""
    from edgepack import digest, runtimes
    from edgepack.samples import Samples
    from edgepack.tuning.split import halves

    _, document = searched
    arrays = np.load(digits / "evaluation.npz")
    assert document["samples"] == {"search": 200, "held_out": 200}
    opened = open_bundle(digits / document["bundle"]["path"])
    _, held = halves(Samples((arrays["x"],), arrays["y"], digest.of_bytes(b"")), 0)
    for record in opened.manifest.variants:
        file = tmp_path / record.id
        file.write_bytes(opened.read_blob(Digest(record.digest), record.size))
        run = runtimes.open_file(file, record.format)
        answers = np.concatenate([run((sample[None],))[0] for sample in held.inputs[0]])
        assert record.score == pytest.approx(float((answers.argmax(1) == held.labels).mean()))
    assert opened.manifest.provenance.evaluation_samples == 200
    searched_on = {trial["variant"]: trial["score"] for trial in document["trials"]}
    assert any(record.score != searched_on[record.id] for record in opened.manifest.variants)


def test_the_same_command_goes_on_where_it_was(digits: Path, searched: tuple[Path, dict]) -> None:
    home, document = searched
    worker = start(digits, home, "-o", "again", "--json", "--trials", TRIALS)
    out, err = worker.communicate(timeout=300)
    again = json.loads(out)
    assert again["trials"] == document["trials"] and "goes on" in err and "trial " not in err.replace("trials", "")
    assert again["bundle"]["digest"] == document["bundle"]["digest"]


@pytest.mark.postgres
def test_two_workers_share_a_study_and_one_that_is_killed_loses_no_trial(
    digits: Path, test_home: Path, postgres: str, tmp_path: Path
) -> None:
    """Two processes with homes of their own, as two machines would be. The first stops in the middle of its first trial (after
    the source was scored on the whole set and on both halves) and is killed there.
    """
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "wheels").symlink_to(test_home / "wheels")
    shared = ("--storage", postgres, "--takeover", "3", "--trials", TRIALS, "--json", "-o")
    stopped = tmp_path / "stopped"
    first = start(digits, tmp_path / "one", *shared, tmp_path, HANG_AT="4", HANG_FILE=str(stopped))
    try:
        while not stopped.exists():
            assert first.poll() is None, first.communicate()[1]
            time.sleep(0.05)
        second = start(digits, tmp_path / "two", *shared, tmp_path / "bundle")
        time.sleep(1)
        first.send_signal(signal.SIGKILL)
        document = finish(second)
    finally:
        first.kill()
        first.communicate()
    trials = document["trials"]
    assert len(trials) == TRIALS == len({trial["key"] for trial in trials})
    assert {trial["worker"].split(":")[1] for trial in trials} == {str(second.pid)}
    assert document["storage"].startswith("postgresql://127.0.0.1:")
    study = open_study(document["study"], postgres, space_of(plan_for("rpi4")), 0, 3)
    held = study.inner.get_trials()
    killed = [trial for trial in held if trial.state.name == "FAIL" and "reason" not in trial.user_attrs]
    assert [trial.user_attrs["worker"].split(":")[1] for trial in killed] == [str(first.pid)]
    assert killed[0].user_attrs["key"] in {trial["key"] for trial in trials}
    assert not [trial for trial in held if trial.state.name in ("RUNNING", "WAITING")]
    assert open_bundle(Path(document["bundle"]["path"])).manifest.name == "digits"


@pytest.mark.postgres
def test_a_server_that_is_not_there_is_one_clear_error(postgres: str) -> None:
    with pytest.raises(BoardError, match="does not work"):
        open_study("study", "postgresql://tester@127.0.0.1:1/none", space_of(plan_for("rpi4")), 0, 3)
    with pytest.raises(BoardError, match="absent"):
        open_study("study", f"{postgres}absent", space_of(plan_for("rpi4")), 0, 3)

"""What a benchmark changes on a board comes back: when it ends, when it is killed, and when whoever watched it is killed too."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgepack.device import tuning
from edgepack.device.faults import Fault
from edgepack.remote import agent_pyz

CORES = 2


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A `/sys` of a board with two cores under `ondemand`."""
    for core in range(CORES):
        folder = tmp_path / f"tree/sys/devices/system/cpu/cpu{core}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text("ondemand\n")
        (folder / "scaling_available_governors").write_text("performance ondemand powersave\n")
    return tmp_path / "tree"


def _governors(tree: Path) -> set[str]:
    return {path.read_text().strip() for path in tree.glob("sys/devices/system/cpu/cpu*/cpufreq/scaling_governor")}


def _until(reached: Callable[[], bool], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def test_a_governor_holds_for_the_run_and_comes_back(tmp_path: Path, tree: Path) -> None:
    root = str(tmp_path / "root")
    with tuning.governor(root, "performance", str(tree)):
        assert _governors(tree) == {"performance"}
        assert tuning.live(root)
        with pytest.raises(Fault, match="another benchmark"), tuning.governor(root, "powersave", str(tree)):
            pass
        tuning.restore_if_left(root)  # another agent on this board meanwhile: nothing of its business
        assert _governors(tree) == {"performance"}
    assert _governors(tree) == {"ondemand"}
    assert not (tmp_path / "root" / tuning.JOURNAL).exists()


def test_it_comes_back_after_an_error(tmp_path: Path, tree: Path) -> None:
    with pytest.raises(ZeroDivisionError), tuning.governor(str(tmp_path / "root"), "performance", str(tree)):
        raise ZeroDivisionError
    assert _governors(tree) == {"ondemand"}


def test_nothing_is_touched_unless_asked(tmp_path: Path, tree: Path) -> None:
    with tuning.governor(str(tmp_path / "root"), "", str(tree)):
        assert _governors(tree) == {"ondemand"}
    assert not (tmp_path / "root").exists()


def test_what_the_kernel_does_not_have_is_refused_before_anything_changes(tmp_path: Path, tree: Path) -> None:
    with pytest.raises(Fault, match="no governor 'turbo'") as fault, tuning.governor("/nowhere", "turbo", str(tree)):
        pass
    assert "performance, ondemand, powersave" in fault.value.expected
    with pytest.raises(Fault, match="lets nobody choose"), tuning.governor("/nowhere", "x", str(tmp_path / "none")):
        pass
    assert _governors(tree) == {"ondemand"}


_HOLD = """
import sys, time
sys.path.insert(0, sys.argv[1])
from device import tuning
with tuning.governor(sys.argv[2], "performance", sys.argv[3]):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def _held(tmp_path: Path, tree: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """An agent, as it is sent to boards, that holds another governor: the process, and its archive."""
    archive = tmp_path / "agent.pyz"
    archive.write_bytes(agent_pyz())
    command = [sys.executable, "-I", "-S", "-c", _HOLD, str(archive), str(tmp_path / "root"), str(tree)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
            assert _governors(tree) == {"performance"}
            yield process, archive
        finally:
            process.kill()


def _watchers(archive: Path) -> list[int]:
    """Processes other than the agent that run its code."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
        except OSError:
            continue
        if os.fsencode(archive) in words and any(b".watch(" in word for word in words):
            found.append(int(entry.name))
    return found


def test_it_comes_back_when_the_agent_is_killed(tmp_path: Path, tree: Path) -> None:
    with _held(tmp_path, tree) as (process, archive):
        process.kill()
    assert _until(lambda: _governors(tree) == {"ondemand"}), "the process that waits did not restore it"
    assert _until(lambda: not (tmp_path / "root" / tuning.JOURNAL).exists())
    assert _until(lambda: not _watchers(archive)), "nobody is left behind"


def test_it_comes_back_with_the_next_verb_where_all_were_killed(tmp_path: Path, tree: Path) -> None:
    with _held(tmp_path, tree) as (process, archive):
        assert _until(lambda: len(_watchers(archive)) == 1)  # its command line shows a moment after it was started
        (watcher,) = _watchers(archive)
        os.kill(watcher, signal.SIGKILL)
        process.kill()
    assert _governors(tree) == {"performance"}
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(archive), "status", str(tmp_path / "root")],
        input=b"{}\n",
        capture_output=True,
        check=True,
    )
    assert "error" not in json.loads(done.stdout)
    assert _governors(tree) == {"ondemand"}
    assert not (tmp_path / "root" / tuning.JOURNAL).exists()


def test_the_journal_is_there_before_anything_is_touched(
    tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def look(path: str, wanted: str) -> None:
        seen.append((json.loads((tmp_path / "root" / tuning.JOURNAL).read_text())["governors"], _governors(tree)))

    monkeypatch.setattr(tuning, "_set", look)
    with tuning.governor(str(tmp_path / "root"), "performance", str(tree)):
        pass
    assert len(seen) == CORES
    assert seen[0][1] == {"ondemand"}
    assert set(seen[0][0].values()) == {"ondemand"}


def test_a_journal_that_names_other_files_touches_none_of_them(tmp_path: Path) -> None:
    target = tmp_path / "victim"
    target.write_text("as it was")
    root = tmp_path / "root"
    root.mkdir()
    journal = {"pid": 0, "started": "", "governors": {str(target): "gone", "/x/../cpufreq/scaling_governor": "y"}}
    (root / tuning.JOURNAL).write_text(json.dumps(journal))
    tuning.restore_if_left(str(root))
    assert target.read_text() == "as it was"
    (root / tuning.JOURNAL).write_text("broken")
    tuning.restore_if_left(str(root))

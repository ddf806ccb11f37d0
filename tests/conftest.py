"""What every test shares: a home of its own for edgepack, capabilities that are probed, boards that are started once."""

from __future__ import annotations

import functools
import importlib.util
import math
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edgepack import boards, digest, stats
from edgepack.cli.progress import Plain
from edgepack.report import (
    BenchProtocol,
    Block,
    BundleRef,
    Conditions,
    Operator,
    ProcessRun,
    Report,
    RunContext,
    RuntimeRef,
    Validity,
)
from edgepack.target import Target

CHECKOUT = Path(__file__).parent.parent
FRAMEWORKS = ("torch", "tensorflow", "onnx", "onnxruntime", "ai_edge_litert")


def _lacks_frameworks() -> str | None:
    missing = [name for name in FRAMEWORKS if importlib.util.find_spec(name) is None]
    return f"not installed: {', '.join(missing)}" if missing else None


@functools.cache
def lacks_programs(*packages: str) -> str | None:
    """Why the programs that are named as their Debian packages cannot be used, or None. Root installs what is missing."""
    missing = [name for name in packages if not shutil.which(name)]
    if not missing:
        return None
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return f"not installed: {', '.join(missing)}; installing them needs root and apt-get"
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120", *missing]
    for before in ([], ["apt-get", "update", "-qq"]):
        if before:
            subprocess.run(before, capture_output=True, check=False)
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode == 0:
            return None
    return f"apt-get could not install {', '.join(missing)}: {done.stderr.strip()[-200:]}"


def _lacks_postgres() -> str | None:
    """PostgreSQL's programs, which Debian keeps out of PATH, and the two packages that speak to it."""
    packages = [name for name in ("optuna", "psycopg") if importlib.util.find_spec(name) is None]
    if packages:
        return f"not installed: {', '.join(packages)}"
    there = [*Path("/usr/lib/postgresql").glob("*/bin/initdb"), *filter(None, [shutil.which("initdb")])]
    return None if there else lacks_programs("postgresql")


PROBES: dict[str, Callable[[], str | None]] = {
    "frameworks": _lacks_frameworks,
    "emulated": boards.can_host_emulated,
    "machine": boards.can_host_machine,
    "registry": lambda: lacks_programs("docker-registry", "skopeo"),
    "skopeo": lambda: lacks_programs("skopeo"),
    "browser": lambda: lacks_programs("chromium"),  # with it comes fontconfig, which needs one font at least
    "cpio": lambda: lacks_programs("cpio"),
    "postgres": _lacks_postgres,
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="write golden files again; look at what changed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("emulated"):  # one worker, so that one board serves all of them
            item.add_marker(pytest.mark.xdist_group("emulated"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test whose capability is missing here is skipped with the reason; where CI is set, nothing may be."""
    for marker, probe in PROBES.items():
        if item.get_closest_marker(marker) and (reason := probe()):
            if os.environ.get("CI"):
                pytest.fail(f"CI must run this test, but: {reason}")
            pytest.skip(reason)


@pytest.fixture(scope="session", autouse=True)
def test_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home of this run's own. What is expensive and checked by digest (wheels, a board's root) outlives the run."""
    home = tmp_path_factory.mktemp("edgepack-home")
    kept = CHECKOUT / ".cache" / "test-home"
    for name in ("wheels", "cache/rootfs", "cache/machine"):
        (kept / name).mkdir(parents=True, exist_ok=True)
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).symlink_to(kept / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEPACK_HOME", str(home))
        yield home


VARIANT = "digits.rpi4.w8a8.tflite"


@pytest.fixture(scope="session")
def make_report() -> Callable[..., Report]:
    """make_report(level_ms=5.0, seed=0, version=…, started=…, **fields): of a Raspberry Pi that never was, steady and valid."""
    return _a_report


def _a_report(
    level_ms: float = 5.0,
    seed: int = 0,
    *,
    version: str = "1.0.0",
    started: str = "2026-03-04T05:06:07Z",
    **fields: Any,
) -> Report:
    random = np.random.default_rng(seed)
    processes = tuple(_process(level_ms * 1e6 * math.exp(random.normal(0, 0.004)), random) for _ in range(5))
    cool = Conditions(governor="performance", mhz=(1800,) * 4, temperature_c=45.0, load_1m=0.1)
    made = Report(
        bundle=BundleRef("digits", version, digest.of_bytes(version.encode())),
        variant=VARIANT,
        runtime=RuntimeRef("litert", "2.1.0", 1, None),
        device={
            "cpu_model": "Cortex-A72",
            "machine": "aarch64",
            "cores": 4,
            "board_model": "Raspberry Pi 4",
            "os": "Linux",
        },
        run_context=RunContext(target="kitchen", started=started, edgepack="0.1.0", before=cool, after=cool),
        protocol=BenchProtocol(),
        processes=processes,
        summary=stats.summarize(processes),
        harness_overhead_ns=300,
        validity=Validity("valid", ()),
        ops=(
            Operator(name="conv_1", kind="CONV_2D", ns=3_000_000, share=0.6, calls=1),
            Operator(name="dense", kind="FULLY_CONNECTED", ns=2_000_000, share=0.4, calls=1),
        ),
    )
    return msgspec.structs.replace(made, **fields)


def _process(level: float, random: np.random.Generator) -> ProcessRun:
    times = tuple(round(level * (1 + 0.01 * random.gamma(2, 0.5))) for _ in range(60))
    return ProcessRun(
        import_ns=80_000_000,
        load_ns=9_000_000,
        first_ns=7_000_000,
        warm_ns=times[:5],
        samples_ns=times,
        vmhwm_kb=50_000,
        blocks=(
            Block(start=0, at_ns=0, temperature_c=45.0, mhz=(1800, 1800)),
            Block(start=30, at_ns=200_000_000, temperature_c=46.5, mhz=(1500, 1500)),
        ),
    )


@pytest.fixture(scope="session")
def progress() -> Plain:
    return Plain()


@pytest.fixture(scope="session")
def loopback(test_home: Path, progress: Plain) -> Iterator[Target]:
    """A loopback board: this machine behind a real SSH server."""
    (target,) = boards.up("shared-loopback", "loopback", "", 1, progress)
    yield target
    boards.down("shared-loopback", progress)


@pytest.fixture(scope="session")
def emulated(test_home: Path, progress: Plain) -> Iterator[Target]:
    """An emulated Raspberry Pi 4: a real arm64 Debian behind a real sshd. Mark its tests `emulated`."""
    (target,) = boards.up("shared-pi", "emulated", "rpi4", 1, progress)
    yield target
    boards.down("shared-pi", progress)

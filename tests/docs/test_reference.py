"""The generated parts of the reference are what the code says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parent.parent.parent
SCRIPT = CHECKOUT / "scripts/reference"


def test_the_reference_is_what_the_code_says() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_what_is_missing_is_noticed_and_written_again(tmp_path: Path) -> None:
    for folder in ("edgepack", "profiles"):
        (tmp_path / folder).symlink_to(CHECKOUT / folder)
    for folder in ("scripts", "docs"):
        (tmp_path / folder).mkdir()
    script, document = tmp_path / "scripts/reference", tmp_path / "docs/reference.md"
    script.write_text(SCRIPT.read_text())
    text = (CHECKOUT / "docs/reference.md").read_text()
    broken = text
    for line in (r"^\| `release` \|.*\n", r"^  --allow-unsigned .*\n", r"^\| 5 \|.*\n"):
        broken, removed = re.subn(line, "", broken, count=1, flags=re.MULTILINE)
        assert removed
    document.write_text(broken)
    checked = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, timeout=120)
    assert checked.returncode == 1 and "scripts/reference" in checked.stderr, checked.stderr
    subprocess.run([sys.executable, script], check=True, timeout=120)
    assert document.read_text() == text

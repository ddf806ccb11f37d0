"""The fixed command lines that are ever run on a board. What varies are their arguments, quoted, never their text."""

from __future__ import annotations

import shlex

WANTS_SIGNED = 96
NO_AGENT = 97
OLD_PYTHON = 98

# A root that starts with `~/` means the home that the board's sh knows. No single quotes: csh and fish keep these as they are.
_ROOT = """r=$1
case $r in "~") r=$HOME ;; "~/"*) r=$HOME/${r#??} ;; esac
"""
_RUN = (
    _ROOT
    + """a=$r/agent/$2/agent.pyz
[ -f "$a" ] || exit 97
exec python3 -I -S "$a" "$3" "$r" "$4"
"""
)
_INSTALL = _ROOT + 'exec python3 -I -S -c "$3" "$r" "$2"\n'

# Runs on whatever `python3` is there, however old, to say so. What arrives is checked before it gets its name.
_PLACE = """
import sys
if sys.version_info < (3, 9):
    sys.stderr.write("Python " + sys.version.split()[0])
    sys.exit(98)
import hashlib, json, os
def place(root, digest):
    data = sys.stdin.buffer.read()
    if hashlib.sha256(data).hexdigest() != digest:
        return {"kind": "board", "what": "the agent arrived damaged or cut off", "advice": "run this again"}
    folder = os.path.join(root, "agent", digest)
    os.makedirs(folder, exist_ok=True)
    aside = os.path.join(folder, ".new." + str(os.getpid()))
    with open(aside, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, os.path.join(folder, "agent.pyz"))
    handle = os.open(folder, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)
try:
    error = place(os.path.abspath(sys.argv[1]), sys.argv[2])
except OSError as problem:
    error = {
        "kind": "board",
        "what": "the agent cannot be written: " + str(problem),
        "expected": "a folder that this user may write to, with some space",
        "advice": "free some space, or give the target another root",
    }
print(json.dumps({"error": error} if error else {}))
"""


def run_agent(root: str, digest: str, verb: str, seconds: float) -> str:
    """Run a verb; exit code NO_AGENT where this agent is not on the board, WANTS_SIGNED where a restricted key may bring it if
    it is signed. digest: hex of the agent's bytes."""
    return _sh(_RUN, "edgepack-run", root, digest, verb, str(int(seconds)))


def install_agent(root: str, digest: str, endorsement: str = "") -> str:
    """Store the agent that arrives on standard input; exit code OLD_PYTHON where the board's Python is too old.

    endorsement: for a board that answered WANTS_SIGNED
    """
    return _sh(_INSTALL, "edgepack-install", root, digest, _PLACE, *([endorsement] if endorsement else []))


def _sh(script: str, name: str, *arguments: str) -> str:
    """name: by which a board knows the command where a key is restricted to it (`edgepack.device.door`)"""
    return shlex.join(["sh", "-c", script, name, *arguments])

"""The command line: the only place that catches errors and prints. Importing it imports no framework."""

from __future__ import annotations

import errno
import os
import sys
import traceback

from edgepack.errors import EdgepackError

_INTERRUPTED = 130


def main() -> None:
    """Run the command line and exit with the code of the design: 0, 2, 3, 4, 5, 6, or 70 for our own bug."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    if len(arguments) < len(sys.argv) - 1:
        os.environ["EDGEPACK_DEBUG"] = "1"
    sys.exit(run(arguments))


def run(arguments: list[str]) -> int:
    """Run one command. Returns its exit code; prints errors with their advice on standard error."""
    from edgepack.cli.app import app

    try:
        result = app(arguments, prog_name="edgepack", standalone_mode=False)
    except EdgepackError as error:
        return _explain(error, error.exit_code)
    except KeyboardInterrupt:
        result = _INTERRUPTED
    except BrokenPipeError:
        return 141
    except Exception as error:
        return _explain_foreign(error)
    if result == _INTERRUPTED:  # typer, too, answers so to Ctrl-C
        print("edgepack: interrupted", file=sys.stderr)
    return result if isinstance(result, int) else 0


def _explain(error: EdgepackError, code: int) -> int:
    if os.environ.get("EDGEPACK_DEBUG"):
        traceback.print_exc()
    print(f"edgepack: {error}", file=sys.stderr)
    return code


def _explain_foreign(error: Exception) -> int:
    """Wrong usage that typer found, a full disk here, or our bug."""
    show = getattr(error, "show", None)
    if callable(show):
        show()
        return int(getattr(error, "exit_code", 2))
    if os.environ.get("EDGEPACK_DEBUG"):
        traceback.print_exc()
    if isinstance(error, OSError) and error.filename is not None:
        print(f"edgepack: {error.filename}: {error.strerror}", file=sys.stderr)
        return 3
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        print(
            f"edgepack: {error.strerror}\ntry: make room where $EDGEPACK_HOME, --out and the temporary folder lie; the same "
            "command then goes on",
            file=sys.stderr,
        )
        return 3
    print(
        f"edgepack: internal error: {type(error).__name__}: {error}\ntry: the same command with --debug, and report it",
        file=sys.stderr,
    )
    return EdgepackError.exit_code

"""Run a script or a module and write how long its imports took: python timed.py SECONDS.json [-m] NAME ARGUMENTS…

Standard library only: it runs in the peers' environments as well. Imports are timed where a statement or `import_module` asks
for one that is not itself part of another import.
"""

import builtins
import importlib
import json
import runpy
import sys
import threading
import time
from pathlib import Path


def count_imports():
    """Replace the two ways of importing; returns a function that gives the seconds spent in them so far."""
    spent, inside, main = [0.0], [False], threading.main_thread()

    def counted(original):
        def call(*arguments, **named):
            if inside[0] or threading.current_thread() is not main:
                return original(*arguments, **named)
            inside[0] = True
            start = time.perf_counter()
            try:
                return original(*arguments, **named)
            finally:
                spent[0] += time.perf_counter() - start
                inside[0] = False

        return call

    builtins.__import__, importlib.import_module = counted(builtins.__import__), counted(importlib.import_module)
    return lambda: spent[0]


def main():
    out, *rest = sys.argv[1:]
    seconds = count_imports()
    try:
        if rest[0] == "-m":
            sys.argv = rest[1:]
            runpy.run_module(rest[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = rest
            sys.path[0] = str(Path(rest[0]).parent)
            runpy.run_path(rest[0], run_name="__main__")
    finally:
        Path(out).write_text(json.dumps(seconds()))


if __name__ == "__main__":
    main()

"""`file.py:callable`: the user's own code, imported so that the files beside it are found."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack import digest
from edgepack.digest import Digest
from edgepack.errors import EdgepackError, InputError, missing_extra
from edgepack.runtimes import foreign

Stamp = tuple[tuple[int, int] | None, ...]


@dataclass(frozen=True)
class UserCallable:
    """A callable of a user's file. `call` runs it with the file's folder on `sys.path`; `digest` is of all code it used."""

    reference: str
    file: Path
    function: Callable[..., Any]

    def call(self, *arguments: Any) -> Any:
        """Raises InputError naming the reference and the line where it failed."""
        with _user_code(self.reference, self.file):
            return self.function(*arguments)

    @contextmanager
    def running(self) -> Iterator[None]:
        """For what the callable returned lazily (a generator): the same surroundings as `call`."""
        with _user_code(self.reference, self.file):
            yield

    def code_digest(self) -> Digest:
        """Of the file and of every module imported from its folder so far, by relative name."""
        folder = self.file.parent
        files = {self.file, *(Path(module.__file__) for module in _siblings(folder).values())}
        named = sorted((path.relative_to(folder).as_posix(), path) for path in files if path.suffix == ".py")
        return digest.of_value([[name, digest.of_file(path)] for name, path in named])


def is_reference(text: str) -> bool:
    """Whether `text` reads as `file.py:callable` (and not as a file's name)."""
    file, colon, name = text.rpartition(":")
    return bool(colon) and file.endswith(".py") and bool(name)


def load_callable(reference: str, folder: Path) -> UserCallable:
    """Import `file.py:callable`, the file relative to `folder`. Raises InputError naming the file, or the names it has."""
    text, _, name = reference.rpartition(":")
    file = (folder / text).absolute()
    if not file.is_file():
        raise InputError(f"{reference}: there is no file {file}", advice=f"check the path, it is relative to {folder}")
    with _user_code(reference, file):
        module = _import(file)
    function = module.__dict__.get(name)
    if not callable(function):
        names = sorted(n for n, value in vars(module).items() if callable(value) and not n.startswith("_"))
        raise InputError(
            f"{reference}: {file.name} has no callable {name!r}",
            expected=f"one of {', '.join(names)}" if names else "a function at the file's top level",
        )
    return UserCallable(reference, file, function)


def _import(file: Path) -> Any:
    """The module of a file, under its own name, as an import by a sibling would: class names end up in converted models."""
    name = file.stem
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(file):
        return known
    if known is not None or name in sys.stdlib_module_names:
        name = f"user_{name}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise InputError(f"{file} cannot be imported", expected="a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def _user_code(reference: str, file: Path) -> Iterator[None]:
    folder = file.parent
    foreign.set_environment()
    _forget_other_folders(folder)
    sys.path.insert(0, str(folder))
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # no __pycache__ in the user's folder
    try:
        with redirect_stdout(sys.stderr):  # standard output belongs to one JSON document
            yield
    except EdgepackError:
        raise
    except SystemExit as error:
        raise InputError(f"{reference}: called sys.exit({error.code})", advice="return a value instead") from error
    except ModuleNotFoundError as error:
        raise _explain_missing(reference, file, error) from error
    except Exception as error:
        where = _line_of(error, folder)
        raise InputError(f"{reference}: {where}{foreign.first_line(error)}", advice=f"correct {file.name}") from error
    finally:
        sys.path.remove(str(folder))
        sys.dont_write_bytecode = writes
        _remember(folder)


def _explain_missing(reference: str, file: Path, error: ModuleNotFoundError) -> EdgepackError:
    """A framework that is not installed is the environment's fault; any other module may be, or a slip of the pen."""
    package = (error.name or "").partition(".")[0]
    if extra := _EXTRAS.get(package):
        return missing_extra(package, extra, reference)
    where = _line_of(error, file.parent)
    return InputError(
        f"{reference}: {where}{foreign.first_line(error)}",
        advice=f"install {package} beside edgepack, or correct {file.name}",
    )


_EXTRAS = {"torch": "torch", "keras": "keras", "tensorflow": "keras", "onnx": "onnx", "onnxruntime": "onnx"}
_known: dict[Path, dict[str, Any]] = {}
"""The modules that lie in each folder whose code has run: two projects may both have a `model.py`."""
_stamps: dict[Path, Stamp] = {}
"""When their files were last written: code that was edited since (in a notebook) is imported again."""
_looked_at: dict[Path, dict[str, Any]] = {}
"""All imported modules when a folder's were last sought: a generator comes here for every batch, and mostly nothing changed."""


def _remember(folder: Path) -> None:
    if sys.modules == _looked_at.get(folder):
        return
    _known[folder] = _siblings(folder)
    _stamps[folder] = _stamp(_known[folder])
    _looked_at[folder] = dict(sys.modules)


def _forget_other_folders(folder: Path) -> None:
    for other, modules in _known.items():
        for name, module in modules.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]
        if other == folder and _stamps[other] == _stamp(modules):
            sys.modules.update(modules)


def _stamp(modules: dict[str, Any]) -> Stamp:
    files = [Path(module.__file__) for module in modules.values()]
    return tuple((file.stat().st_mtime_ns, file.stat().st_size) if file.is_file() else None for file in files)


def _siblings(folder: Path) -> dict[str, Any]:
    """Imported modules whose file, or whose top package, lies directly in `folder` (not what is installed below it)."""
    found = {}
    for name, module in list(sys.modules.items()):
        top = sys.modules.get(name.partition(".")[0])
        origin, own = getattr(top, "__file__", None), getattr(module, "__file__", None)
        if not origin or not own:
            continue
        place = Path(origin).parent
        if place == folder or (Path(origin).name == "__init__.py" and place.parent == folder):
            found[name] = module
    return found


def _line_of(error: Exception, folder: Path) -> str:
    """`net.py line 12: ` of the innermost frame in the user's folder."""
    trace, found = error.__traceback__, ""
    while trace is not None:
        path = Path(trace.tb_frame.f_code.co_filename)
        if path.is_relative_to(folder):
            found = f"{path.relative_to(folder)} line {trace.tb_lineno}: "
        trace = trace.tb_next
    return found

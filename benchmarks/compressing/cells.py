"""A cell: one method on one model, in a fresh process, kept by the digest of all that decides its result."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path

from accounting import Cost, account

from compressing import environments, methods, models
from compressing.methods import METHODS, Method
from compressing.models import Model
from compressing.places import BENCHMARKS, CACHE, CHECKOUT, HERE, digest_of_code

LIMIT = 30 * 60.0
SHARED_HOME = CACHE / "home"
"""Where the boards that measure live, with their wheels."""
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
_LIBRARIES = (
    "ai-edge-litert",
    "ai-edge-quantizer",
    "litert-torch",
    "numpy",
    "onnx",
    "onnxruntime",
    "torch",
    "tf2onnx",
    "tensorflow-cpu",
)


@dataclass(frozen=True)
class Variant:
    """One model file of a build, and what became of it. path: inside the cell's folder, empty where it was not packed"""

    id: str
    format: str
    precision: str
    path: str
    status: str
    reason: str


@dataclass(frozen=True)
class Cell:
    """imports: seconds of the wall time that went into importing; failed: why there is no file, empty where there is

    late: it was stopped at the limit, so that its cost is the least that it would have been
    again: False where the cell was found in the cache
    """

    model: str
    method: str
    folder: Path
    cost: Cost
    imports: float
    variants: tuple[Variant, ...] = ()
    failed: str = ""
    late: bool = False
    again: bool = False

    @property
    def file(self) -> Path | None:
        """The model file that the method wrote."""
        if self.failed:
            return None
        output = METHODS[self.method].output
        if output:
            return self.folder / output
        chosen = next((v for v in self.variants if v.status == "selected"), None)
        return self.folder / chosen.path if chosen else None


def cell(model: Model, method: Method, again: bool, done: dict[str, Cell]) -> Cell:
    """Run the method unless its result is kept. done: this model's cells so far. again: forget a kept result."""
    data, starts = models.data_folder(model), [done[name] for name in method.starts_from]
    if failed := next((start for start in starts if start.failed), None):
        return Cell(model.name, method.name, CACHE, Cost(0, 0, 0), 0, failed=f"no float file: {failed.failed}")
    folder = CACHE / "cells" / f"{model.name}.{method.name.replace(' ', '-')}.{_key(model, method, data, starts)[:16]}"
    record = folder / "cell.json"
    if record.exists() and not again:
        return _read(record)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("calibration.npz", "validation.npz"):
        (folder / name).symlink_to((data / name).absolute())
    for start in starts:
        (folder / METHODS[start.method].output).symlink_to(start.file.absolute())
    found = _run(model, method, folder)
    kept = {**asdict(found), "folder": str(folder), "again": False}
    record.write_text(json.dumps(kept, indent=1))
    return replace(found, again=True)


def _run(model: Model, method: Method, folder: Path) -> Cell:
    environments.require(method.who)
    if model.framework == "torch" and method.name == "convert onnx" and model != models.QUICK:
        _train(model, folder)
    print(f"  {model.name}: {method.name} …", end=" ", flush=True, file=sys.stderr)
    imports, log = folder / "imports.json", folder / "log.txt"
    arguments = methods.command(method, model, folder)
    command = [str(methods.python(method)), str(HERE / "timed.py"), str(imports), *arguments]
    home = SHARED_HOME if method.name.endswith("--target") else folder / "home"
    settings = environments.SETTINGS.get(method.who, {})
    env = {**THREADS, "PYTHONPATH": str(CHECKOUT), "EDGEPACK_HOME": str(home), **settings}
    with _board(methods.board(model), folder / "here.toml") if home == SHARED_HOME else nullcontext():
        ended = account(command, log, env, BENCHMARKS, LIMIT)
    print(f"{ended.cost.wall:.1f} s", flush=True, file=sys.stderr)
    seconds = json.loads(imports.read_text()) if imports.exists() else 0.0
    found = Cell(model.name, method.name, folder, ended.cost, seconds)
    if ended.code == -9:
        return replace(found, failed=f"did not end within {LIMIT / 60:.0f} minutes", late=True)
    if ended.code:
        return replace(found, failed=_last_words(log))
    if method.who == "edgepack":
        found = replace(found, variants=unpack(folder, log))
        if method.name == "edgepack build":  # what it made need not be made again to be measured on a board
            steps = folder / "home" / "cache" / "steps"
            shutil.copytree(steps, SHARED_HOME / "cache" / "steps", dirs_exist_ok=True)
        shutil.rmtree(folder / "home", ignore_errors=True)
        if not any(variant.path for variant in found.variants):
            return replace(found, failed="; ".join(variant.reason for variant in found.variants))
    return found


@contextmanager
def _board(name: str, profile: Path) -> Iterator[None]:
    """A loopback board of this profile, for as long as one build measures on it."""

    def board(*arguments: str) -> None:
        command = [str(methods.PYTHON), "-m", "edgepack", "board", *arguments]
        env = {**os.environ, "PYTHONPATH": str(CHECKOUT), "EDGEPACK_HOME": str(SHARED_HOME)}
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        if done.returncode and arguments[0] == "up":
            sys.exit(f"{' '.join(command)}\n{done.stderr}")

    board("down", name)  # what a run that was killed left behind
    board("up", name, "--kind", "loopback", "--profile", str(profile))
    try:
        yield
    finally:
        board("down", name)


def _train(model: Model, folder: Path) -> None:
    """The weights first, in a process of their own: training is no part of any method."""
    weights = models.weights_file(model)
    if weights is None or weights.exists():
        return
    print(f"  {model.name}: train …", end=" ", flush=True, file=sys.stderr)
    code = f"from compressing.models import module; module({model.name!r})"
    ended = account(
        [str(methods.PYTHON), "-c", code],
        folder / "training.txt",
        {**THREADS, "PYTHONPATH": str(CHECKOUT)},
        BENCHMARKS,
        LIMIT,
    )
    if ended.code:
        sys.exit(f"training {model.name} failed\n{(folder / 'training.txt.err').read_text()[-2000:]}")
    print(f"{ended.cost.wall:.0f} s", flush=True, file=sys.stderr)


def unpack(folder: Path, log: Path) -> tuple[Variant, ...]:
    """The variants of the bundle that `edgepack build --json` wrote, those it kept as files in the cell's folder."""
    from edgepack.bundle import open_bundle

    built = json.loads(log.read_text())["bundles"][0]
    bundle = open_bundle(built["path"])
    digests = {variant.id: variant.digest for variant in bundle.manifest.variants}
    found = []
    for variant in built["variants"]:
        path = ""
        if variant["id"] in digests:
            path = variant["id"]
            with bundle.open_blob(digests[variant["id"]]) as blob, (folder / path).open("wb") as out:
                shutil.copyfileobj(blob, out)
        found.append(
            Variant(variant["id"], variant["format"], variant["precision"], path, variant["status"], variant["reason"])
        )
    shutil.rmtree(folder / "out", ignore_errors=True)
    return tuple(found)


def _last_words(log: Path) -> str:
    said = log.read_text(errors="replace") + Path(f"{log}.err").read_text(errors="replace")
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    ours = next((place for place, line in enumerate(lines) if line.startswith("edgepack: ")), len(lines) - 1)
    return " ".join(lines[ours : ours + 2])[:300] if lines else "it said nothing"


def _read(record: Path) -> Cell:
    kept = json.loads(record.read_text())
    variants = tuple(Variant(**variant) for variant in kept.pop("variants"))
    return Cell(**{**kept, "folder": Path(kept["folder"]), "cost": Cost(**kept["cost"]), "variants": variants})


def _key(model: Model, method: Method, data: Path, starts: list[Cell]) -> str:
    """Of the method's code and settings, its libraries, the model, the samples and the file it starts from."""
    code = [HERE / "timed.py"]
    match method.who:
        case "nncf":
            code.append(HERE / "run_nncf.py")
        case "olive":
            code.append(HERE / "run_olive.py")
        case "edgepack":
            code += edgepack_code()
        case _:
            code += [HERE / "run_raw.py", BENCHMARKS / "stages.py"]
    inputs = [data / "calibration.npz", data / "validation.npz", *(start.file for start in starts)]
    versions = environments.versions(method.who) or [(name, metadata.version(name)) for name in _LIBRARIES]
    settings = methods.profile_text(method, model) if method.who == "edgepack" else ""
    weights = None if starts else models.weights_file(model)
    facts = [
        model.name,
        model.framework,
        model.flavour,
        methods.MAX_DROP,
        method.name,
        settings,
        weights.name if weights else "",
        digest_of_code(*code),
        _digest_of_files(*inputs),
        versions,
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def edgepack_code() -> list[Path]:
    """What decides what a build makes: the rooms that do it, and the decisions."""
    package = CHECKOUT / "edgepack"
    rooms = [
        file
        for room in ("sources", "convert", "compress", "evaluate", "runtimes", "pipeline")
        for file in (package / room).rglob("*.py")
    ]
    return sorted([*rooms, *(package / f"{name}.py" for name in ("plan", "recipe", "select", "samples", "variant"))])


def _digest_of_files(*files: Path) -> str:
    hasher = hashlib.sha256()
    for file in files:
        hasher.update(file.read_bytes())
    return hasher.hexdigest()

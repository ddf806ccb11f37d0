"""What a word means where a bundle or a model is wanted, and getting it."""

from __future__ import annotations

import re
from pathlib import Path

from edgepack import bundle, files, references, registry, store
from edgepack.bundle import Bundle
from edgepack.errors import InputError, UsageError
from edgepack.exchange.moving import fetch
from edgepack.home import home
from edgepack.ports import Progress
from edgepack.references import InRegistry, InStore

_SAFE = (".onnx", ".tflite")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,159}")


def open_word(word: str, progress: Progress, *, plain_http: bool = False) -> Bundle:
    """The bundle that `word` means (see `references.parse`); one in a registry is fetched into the store first.

    Raises InputError, TrustError, BoardError or UsageError, naming what the word was taken for.
    """
    match references.parse(word):
        case InRegistry() as remote:
            return bundle.open_bundle(fetch(remote, plain_http=plain_http, progress=progress).entry.path)
        case InStore(name, version, profile, content):
            return bundle.open_bundle(store.find(name, version, profile, content).path)
        case path:
            return _open_file(path, word)


def _open_file(path: Path, word: str) -> Bundle:
    try:
        return bundle.open_bundle(path)
    except InputError as error:
        known = {entry.name for entry in store.entries()} if not path.exists() else set()
        if word in known:
            raise InputError(
                error.what, expected=error.expected, advice=f"{word}@VERSION names one of the store"
            ) from None
        raise


def source_of(word: str, progress: Progress) -> str:
    """What to build from: `word` as it is, or the file of the model that it names in a registry.

    `HOST/REPOSITORY:TAG`, or with `#VARIANT` one of several. Raises as `fetch_model`.
    """
    named, _, variant = word.partition("#")
    if not named.startswith("oci://") and (Path(word).exists() or Path(word.partition(":")[0]).exists()):
        return word
    match references.parse(named):
        case InRegistry() as remote:
            return str(fetch_model(remote, variant, progress))
        case _:
            return word


def fetch_model(of: InRegistry, variant: str, progress: Progress) -> Path:
    """A model file out of a registry, as a source to build from, kept by digest.

    A ModelPack artifact (a bundle is one) with one model file gives that; of several, `variant` says which, else the one in
    full precision and unpruned. Only formats that hold no code are taken: .onnx and .tflite.
    Raises UsageError where several could be meant, InputError where there is none.
    """
    with registry.connect(of) as there:
        data = there.manifest(of.tag or of.wanted)
        models = bundle.model_files(data, str(of))
        chosen = _choose([name for name, _, _ in models], variant, str(of))
        name, blob, size = next(model for model in models if model[0] == chosen)
        path = home() / "cache/models" / blob.removeprefix("sha256:") / name
        if path.is_file() and path.stat().st_size == size:
            return path
        with progress.step(f"fetch {name} from {of}"), files.aside(path) as fresh, fresh.open("wb") as sink:
            there.read_blob(blob, size, sink)
    return path


def _choose(names: list[str], variant: str, where: str) -> str:
    safe = [name for name in names if _FILE.fullmatch(name) and name.endswith(_SAFE) and ".." not in name]
    if not safe:
        raise InputError(
            f"{where}: it holds no model that may be built from: {', '.join(names)[:200] or 'none at all'}",
            expected="one .onnx or .tflite; others may hold code, which nothing out of a registry may run",
            advice="fetch it with oras or skopeo, look at it, and name the file",
        )
    full = [name for name in safe if ".fp32." in name]
    wanted = [name for name in safe if name == variant] if variant else safe if len(safe) == 1 else full
    if len(wanted) == 1:
        return wanted[0]
    if variant or not wanted:
        raise InputError(f"{where}: it holds no {variant or 'model in full precision'}", expected=", ".join(safe))
    raise UsageError(
        f"{where}: several models could be meant", expected=", ".join(safe), advice=f"{where}#{wanted[0]} names one"
    )

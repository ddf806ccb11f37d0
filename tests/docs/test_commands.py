"""What the documents say holds: their commands run and print what is shown, their flags exist, their links lead somewhere.

A `console` block is run, in order, in an empty folder: lines that begin with `$ ` are commands, `# exit 6` is the code that one is
to end with, and every word of the output that is shown must be in the real one. A block such as `python linear.py` is first saved
under that name. What cannot run here (hardware) is in `text` blocks, whose commands and flags must exist all the same.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer

from edgepack import boards
from edgepack.cli.app import app
from edgepack.cli.progress import Plain

CHECKOUT = Path(__file__).parent.parent.parent
DOCUMENTS = (CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md")))
WRITTEN_ON = "linux-x86_64"
"""The profile of the machine that the documents were written on: another kind of machine reads its own there."""

_FENCE = re.compile(r"^```(?P<kind>\w*) ?(?P<file>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_WORD = re.compile(r"(?<![\w.])[A-Za-z_]{4,}(?![\w.])")


@dataclass(frozen=True)
class Block:
    """A fenced block. file: what a reader saves it as, empty for most; line: of its first line in the document"""

    kind: str
    file: str
    text: str
    line: int


@dataclass(frozen=True)
class Command:
    """A command of a `console` block. code: what it is to end with; shown: the output that the document shows"""

    text: str
    code: int
    shown: str
    line: int


def blocks(document: Path) -> Iterator[Block]:
    text = document.read_text().replace(WRITTEN_ON, boards.default_profile("loopback"))
    for found in _FENCE.finditer(text):
        yield Block(found["kind"], found["file"].strip(), found["text"], text.count("\n", 0, found.start()) + 2)


def commands(block: Block) -> Iterator[Command]:
    for found in re.finditer(r"^\$ .*?(?=^\$ |\Z)", block.text, re.MULTILINE | re.DOTALL):
        command, _, shown = re.sub(r"\\\n\s*", "", found[0][2:]).partition("\n")
        text, _, code = command.partition("  # exit ")
        line = block.line + block.text.count("\n", 0, found.start())
        yield Command(text, int(code or 0), shown, line)


Walk = Callable[[Path], Path]


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory, test_home: Path) -> Iterator[Walk]:
    """Follow a document once, in an empty folder with a home of its own; fetched wheels are shared with other tests."""
    folders: dict[Path, Path] = {}
    homes = []

    def follow(document: Path) -> Path:
        if document not in folders:
            folder, home = (tmp_path_factory.mktemp(f"{document.stem}-{what}") for what in ("folder", "home"))
            (home / "wheels").symlink_to(test_home / "wheels")
            (folder / "scripts").symlink_to(CHECKOUT / "scripts")
            folders[document] = folder
            homes.append(home)
            _follow(document, folder, home)
        return folders[document]

    yield follow
    for home in homes:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("EDGEPACK_HOME", str(home))
            for board in boards.listing():
                boards.down(board.name, Plain())


def _follow(document: Path, folder: Path, home: Path) -> None:
    environment = {
        **os.environ,
        "EDGEPACK_HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",  # other tests share the machine
    }
    for block in blocks(document):
        if block.file:
            (folder / block.file).parent.mkdir(exist_ok=True)
            (folder / block.file).write_text(block.text)
        for command in commands(block) if block.kind == "console" else ():
            done = subprocess.run(
                ["bash", "-c", command.text], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
            )
            where = f"{document.name}:{command.line}: $ {command.text}"
            said = f"{done.stdout}\n{done.stderr}"
            assert done.returncode == command.code, f"{where}\nended with {done.returncode}:\n{said}"
            gone = sorted(set(_WORD.findall(command.shown)) - set(_WORD.findall(said)))
            assert not gone, f"{where}\nno longer prints {', '.join(gone)}:\n{said}"


@pytest.mark.frameworks
@pytest.mark.board
@pytest.mark.network
@pytest.mark.xdist_group("docs")
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_commands_run_and_print_what_is_shown(document: Path, walk: Walk) -> None:
    if any(block.kind == "console" for block in blocks(document)):
        walk(document)


@pytest.mark.frameworks
@pytest.mark.board
@pytest.mark.network
@pytest.mark.xdist_group("docs")
def test_the_document_of_a_build_is_described(walk: Walk) -> None:
    real = msgspec.json.decode((walk(CHECKOUT / "docs/guide.md") / "build.json").read_bytes())
    described = next(block for block in blocks(CHECKOUT / "docs/reference.md") if '"bundles"' in block.text)
    measured = {key for key in keys(msgspec.json.decode(described.text)) if ".measured[]" in key}  # no board did, here
    assert set(keys(msgspec.json.decode(described.text))) - measured == set(keys(real))


def keys(value: Any, path: str = "") -> Iterator[str]:
    """Every key of a JSON document, with the keys that lead to it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{path}.{key}"
            yield from keys(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner, f"{path}[]")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_and_flag_exists(document: Path) -> None:
    for spoken in spoken_commands(document):
        known, flags = parameters(spoken)
        assert known, f"{document.name}: no such command: {spoken}"
        unknown = [word for word in words(spoken) if word.startswith("-") and word.partition("=")[0] not in flags]
        assert not unknown, f"{document.name}: {spoken}: no such option: {', '.join(unknown)}"


def spoken_commands(document: Path) -> Iterator[str]:
    """Every `edgepack …` in a block (but a table's) or a code span, from there to the end of its command."""
    text = document.read_text()
    fences = (found for found in _FENCE.finditer(text) if found["kind"] != "table")
    runnable = "\n".join(re.sub(r"\\\n\s*", "", found["text"]) for found in fences)
    spans = "\n".join(re.findall(r"(?<!`)`([^`\n]+)`(?!`)", _FENCE.sub("", text)))
    for found in re.finditer(r"(?:^|(?<=[\s(/]))edgepack (?=[a-z-])(.*)$", f"{runnable}\n{spans}", re.MULTILINE):
        yield re.split(r"\s[|>;&#]|&&|\)", found[0])[0]


def words(spoken: str) -> list[str]:
    return shlex.split(spoken.replace("…", " "))


def parameters(spoken: str) -> tuple[bool, set[str]]:
    """Whether the words name a command, and the options that it takes."""
    command: Any = typer.main.get_command(app)
    for word in words(spoken)[1:]:
        inner = getattr(command, "commands", {})
        if not inner or word.startswith("-"):
            break
        if not set(word.split("|")) <= set(inner):  # `board up|down`
            return False, set()
        command = inner[word.split("|")[0]]
    options = {option for parameter in command.params for option in parameter.opts}
    return True, options | {"--help", "--debug"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    text = _FENCE.sub("", document.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)|<img[^>]* src=\"([^\"]+)\"", text):
        path, _, anchor = (target[0] or target[1]).partition("#")
        if path.startswith("http"):
            continue
        file = document.parent / path if path else document
        assert file.exists(), f"{document.name}: {path} does not exist"
        assert not anchor or anchor in anchors(file), f"{document.name}: {path} has no heading #{anchor}"


def anchors(file: Path) -> set[str]:
    """The anchors of a document's headings, as forges name them."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", file.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}

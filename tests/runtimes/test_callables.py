"""Users' code: found with the files beside it, named when it fails, kept apart from another project's, never on stdout."""

from __future__ import annotations

import sys

import pytest

from edgepack.errors import InputError, UsageError
from edgepack.runtimes import callables
from edgepack.runtimes.callables import is_reference, load_callable


def write(folder, **files: str):
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("m.py:f", True),
        ("a/b.py:f.g", True),
        ("m.py", False),
        ("m.py:", False),
        ("m.onnx", False),
        ("C:/x.onnx", False),
    ],
)
def test_references(text, expected):
    assert is_reference(text) == expected


def test_siblings_are_found_also_late(tmp_path):
    write(
        tmp_path,
        model="import net\ndef f(x):\n    import late\n    return net.ONE + late.TWO + x",
        net="ONE = 1",
        late="TWO = 2",
    )
    assert load_callable("model.py:f", tmp_path).call(3) == 6
    assert str(tmp_path) not in sys.path


def test_modules_are_sought_again_only_where_some_were_imported(tmp_path, monkeypatch):
    """A generator runs for every batch, among the thousands of modules that frameworks import."""
    write(
        tmp_path,
        model="def f():\n    for i in range(9):\n        if i == 6:\n            import late\n        yield i",
        late="TWO = 2",
    )
    user = load_callable("model.py:f", tmp_path)
    made, sought = user.call(), []
    before = user.code_digest()
    siblings = callables._siblings
    monkeypatch.setattr(callables, "_siblings", lambda folder: sought.append(folder) or siblings(folder))
    for _ in range(9):
        with user.running():
            next(made)
    assert sought == [tmp_path]
    assert user.code_digest() != before


def test_a_package_beside_it_is_found(tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/__init__.py").write_text("")
    (tmp_path / "parts/inner.py").write_text("VALUE = 7")
    write(tmp_path, model="from parts.inner import VALUE\ndef f(): return VALUE")
    assert load_callable("model.py:f", tmp_path).call() == 7


def test_two_projects_with_files_of_the_same_names(tmp_path):
    one = write(tmp_path / "one", model="import net\ndef f(): return net.N", net="N = 1")
    two = write(tmp_path / "two", model="import net\ndef f(): return net.N", net="N = 2")
    first, second = load_callable("model.py:f", one), load_callable("model.py:f", two)
    assert (first.call(), second.call(), load_callable("model.py:f", one).call()) == (1, 2, 1)
    assert first.code_digest() != second.code_digest()


def test_edited_code_is_imported_again(tmp_path):
    write(tmp_path, model="import net\ndef f(): return net.N", net="N = 1")
    before = load_callable("model.py:f", tmp_path)
    assert before.call() == 1
    digest = before.code_digest()
    write(tmp_path, net="N = 1234")
    after = load_callable("model.py:f", tmp_path)
    assert after.call() == 1234
    assert after.code_digest() != digest


def test_the_digest_is_of_all_code_used_wherever_it_lies(tmp_path):
    files = {"model": "import net\ndef f(): return net.N", "net": "N = 1"}
    digests = []
    for place in ("one", "two"):
        user = load_callable("model.py:f", write(tmp_path / place, **files, unused=f"# {place}"))
        user.call()
        digests.append(user.code_digest())
    assert digests[0] == digests[1]


def test_a_name_of_the_standard_library(tmp_path):
    import random

    write(tmp_path, random="def f(): return 4")
    assert load_callable("random.py:f", tmp_path).call() == 4
    assert sys.modules["random"] is random


def test_prints_go_to_standard_error(tmp_path, capsys):
    write(tmp_path, model="print('importing')\ndef f(): print('calling')")
    load_callable("model.py:f", tmp_path).call()
    said = capsys.readouterr()
    assert said.out == "" and said.err.split() == ["importing", "calling"]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def f(: pass", r"model\.py:f: .*SyntaxError"),
        ("x = 1 / 0\ndef f(): pass", r"model\.py line 1: ZeroDivisionError: division by zero"),
        ("def f():\n    return {}['a']", r"model\.py line 2: KeyError: 'a'"),
        ("import not_there_at_all\ndef f(): pass", r"line 1: ModuleNotFoundError(.|\n)*install not_there_at_all"),
        ("import sys\ndef f(): sys.exit(3)", r"called sys.exit\(3\)"),
        ("def g(): pass", r"has no callable 'f'\nexpected: one of g"),
        ("f = 3", r"has no callable 'f'"),
    ],
)
def test_what_fails_is_named(code, said, tmp_path):
    write(tmp_path, model=code)
    with pytest.raises(InputError, match=said):
        load_callable("model.py:f", tmp_path).call()
    assert str(tmp_path) not in sys.path


def test_a_missing_framework_names_its_extra(tmp_path, monkeypatch):
    write(tmp_path, model="def f():\n    import tensorflow")
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(UsageError, match=r"pip install 'edgepack\[keras\]'"):
        load_callable("model.py:f", tmp_path).call()


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"none\.py:f: there is no file"):
        load_callable("none.py:f", tmp_path)

"""The bundles of the tests of exchange serve these as well."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location(
    "exchange_fixtures", Path(__file__).parent.parent / "exchange/conftest.py"
)
assert _spec and _spec.loader
_module = importlib.util.module_from_spec(_spec)
__import__("sys").modules[_spec.name] = _module
_spec.loader.exec_module(_module)
home, make_bundle = _module.home, _module.make_bundle

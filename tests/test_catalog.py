"""Names found on disk: profiles, inventories, pinned host keys."""

from __future__ import annotations

import pytest

from edgepack import catalog
from edgepack.errors import InputError, UsageError

INVENTORY = """
[defaults]
user = "pi"
profile = "rpi4"
[targets.kitchen]
host = "kitchen.local"
labels = { ring = "canary", site = "berlin" }
[targets.cellar]
labels = { site = "berlin" }
"""


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEPACK_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets" / "lab.toml").write_text(INVENTORY)


def test_every_shipped_profile_resolves():
    names = {resolved.name for resolved in catalog.load_profiles()}
    assert names >= {
        "rpi-zero-2w",
        "rpi3",
        "rpi4",
        "rpi5",
        "rpi-32bit",
        "android-arm64",
        "linux-aarch64",
        "linux-x86_64",
    }


def test_an_unknown_profile_is_named_with_the_nearest():
    with pytest.raises(UsageError, match="rpi4"):
        catalog.load_profiles(["raspi4"])


def test_a_profile_of_the_users_own(tmp_path):
    own = tmp_path / "mine.toml"
    own.write_text('schema = "edgepack.profile/1"\ntitle = "mine"\nextends = "rpi4"\n[budget]\nmax_drop = 0.02\n')
    (resolved,) = catalog.load_profiles([str(own)])
    assert (resolved.name, resolved.profile.budget.max_drop, resolved.profile.device.cpu) == (
        "mine",
        0.02,
        "cortex-a72",
    )
    assert {o.origin for o in resolved.origins} == {"mine.toml", "rpi4.toml", "linux-aarch64.toml", "default"}


def test_a_profile_that_extends_itself_ends(tmp_path):
    own = tmp_path / "loop.toml"
    own.write_text('schema = "edgepack.profile/1"\ntitle = "loop"\nextends = "loop"\n')
    with pytest.raises(InputError, match="levels"):
        catalog.load_profiles([str(own)])


def test_names_and_expressions():
    assert [target.name for target in catalog.find_targets(["site=berlin and not ring=canary"])] == ["cellar"]
    assert [target.name for target in catalog.find_targets(["cellar", "ring=canary"])] == ["kitchen", "cellar"]
    with pytest.raises(UsageError, match="kitchen"):
        catalog.find_targets(["kichen"])


def test_a_pin_holds_for_the_address_it_was_made_for(tmp_path):
    (kitchen,) = catalog.find_targets(["kitchen"])
    assert not kitchen.enrolled
    catalog.pin(kitchen, "SHA256:abc")
    (kitchen,) = catalog.find_targets(["kitchen"])
    assert kitchen.host_key == "SHA256:abc"
    inventory = tmp_path / "targets" / "lab.toml"
    inventory.write_text(inventory.read_text().replace("kitchen.local", "other.local"))
    (kitchen,) = catalog.find_targets(["kitchen"])
    assert not kitchen.enrolled


def test_the_same_name_twice_is_an_error(tmp_path):
    (tmp_path / "targets" / "more.toml").write_text('[targets.kitchen]\nprofile = "rpi4"\n')
    with pytest.raises(InputError, match="also defined"):
        catalog.load_targets()


def test_an_unknown_key_in_an_inventory(tmp_path):
    (tmp_path / "targets" / "lab.toml").write_text('[targets.kitchen]\nprofil = "rpi4"\n')
    with pytest.raises(InputError, match=r"(?s)lab.toml.*profil.*perhaps you meant 'profile'"):
        catalog.load_targets()

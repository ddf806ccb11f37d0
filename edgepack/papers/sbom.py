"""What a bundle is made of and what runs it: a CycloneDX 1.6 bill of materials."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from edgepack import digest
from edgepack.digest import Digest
from edgepack.errors import missing_extra
from edgepack.lock import RuntimeLock, Wheel
from edgepack.manifest import Manifest

if TYPE_CHECKING:
    from cyclonedx.model import HashType
    from cyclonedx.model.component import Component

BILL = "application/vnd.cyclonedx+json"


def bill_of_materials(manifest: Manifest, locks: Sequence[RuntimeLock]) -> bytes:
    """Its components: the model files, the wheels of the runtime locks, the packages that built it.

    The serial number comes from the manifest and the time from its `created`: the same inputs give the same bytes.
    Raises UsageError where cyclonedx-python-lib is not installed.
    """
    try:
        from cyclonedx.model.bom import Bom, BomMetaData
        from cyclonedx.model.component import Component, ComponentType
        from cyclonedx.output.json import JsonV1Dot6
    except ModuleNotFoundError:
        raise missing_extra("cyclonedx-python-lib", "sbom", "a bill of materials") from None
    own = digest.hex_of(digest.of_bytes(manifest.encode()))
    whole = Component(
        name=manifest.name,
        version=manifest.version,
        type=ComponentType.APPLICATION,
        description=f"model bundle for {manifest.profile.name}",
        bom_ref=f"bundle:{own}",
    )
    metadata = BomMetaData(component=whole, timestamp=datetime.fromisoformat(manifest.created))
    bom = Bom(serial_number=uuid.UUID(own[:32]), metadata=metadata)
    wheels = {wheel.digest: _wheel(wheel) for lock in locks for wheel in lock.wheels}
    needs = {lock.runtime: [wheels[wheel.digest] for wheel in lock.wheels] for lock in locks}
    models = []
    for record in manifest.variants:
        model = Component(
            name=record.id,
            version=manifest.version,
            type=ComponentType.MACHINE_LEARNING_MODEL,
            description=f"{record.precision} {record.format} for {record.runtime}, {record.size} bytes",
            hashes=[_hash(record.digest)],
            bom_ref=f"model:{record.id}",
        )
        models.append(model)
        bom.components.add(model)
        bom.register_dependency(model, needs.get(record.runtime, []))
    bom.register_dependency(whole, models)
    for wheel in wheels.values():
        bom.components.add(wheel)
        bom.register_dependency(wheel)
    for name, version in sorted({*manifest.source.frameworks, *manifest.provenance.tools}):
        tool = _tool(name, version)
        bom.components.add(tool)
        bom.register_dependency(tool)
    return JsonV1Dot6(bom).output_as_string(indent=1).encode() + b"\n"


def _hash(content: Digest) -> HashType:
    from cyclonedx.model import HashAlgorithm, HashType

    return HashType(alg=HashAlgorithm.SHA_256, content=digest.hex_of(content))


def _wheel(wheel: Wheel) -> Component:
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    return Component(
        name=wheel.name,
        version=wheel.version,
        type=ComponentType.LIBRARY,
        description="in the runtime lock: installed on the board",
        hashes=[_hash(wheel.digest)],
        purl=PackageURL("pypi", None, wheel.name, wheel.version, {"file_name": wheel.filename}),
        bom_ref=f"wheel:{digest.hex_of(wheel.digest)}",
    )


def _tool(name: str, version: str) -> Component:
    """Not on the board: `excluded` in the words of CycloneDX."""
    from cyclonedx.model.component import Component, ComponentScope, ComponentType
    from packageurl import PackageURL

    return Component(
        name=name,
        version=version,
        type=ComponentType.FRAMEWORK,
        description="built the models; not installed on the board",
        scope=ComponentScope.EXCLUDED,
        purl=PackageURL("pypi", None, name, version),
        bom_ref=f"tool:{name}@{version}",
    )

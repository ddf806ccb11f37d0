"""OCI registries, spoken to by opencontainers/distribution-spec v1.1. Knows manifests and blobs, not what they mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edgepack.references import InRegistry

if TYPE_CHECKING:
    from edgepack.registry.client import Registry as Registry

__all__ = ["Registry", "connect"]


@contextmanager
def connect(reference: InRegistry, *, plain_http: bool = False, writing: bool = False) -> Iterator[Registry]:
    """A registry's repository. Over https; over http to this machine, or with `plain_http`."""
    from edgepack.registry.client import Registry  # a push of a file need not wait for an HTTP client
    from edgepack.registry.transport import Transport

    transport = Transport(reference, plain_http or reference.loopback, writing)
    try:
        yield Registry(transport)
    finally:
        transport.close()

"""OCI registries, spoken to by opencontainers/distribution-spec v1.1. Knows manifests and blobs, not what they mean."""

from edgepack.registry.client import Registry, connect

__all__ = ["Registry", "connect"]

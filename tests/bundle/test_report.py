"""A page of a bundle alone: its variants, and what its paper says of layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgepack import papers
from edgepack.bundle import pack
from edgepack.cli import run
from edgepack.cli.reporting import layers_of
from edgepack.names import VariantId
from edgepack.variant import LayerReport, Quantizing

pytestmark = pytest.mark.frameworks
LAYER = LayerReport(
    kind="CONV_2D", name="first", sqnr_db=31.25, cosine=0.9995, low=-1.0, high=6.0, clipped=0.01, shift=0.002
)


def test_layers_reach_the_page_from_the_bundle_s_paper(parts: Any, tmp_path: Path) -> None:
    variant = VariantId(parts.manifest.default)
    quantized = [Quantizing(variant, ("biases corrected",), (LAYER,))]
    own = papers.write(parts.manifest, (), None, quantized)
    manifest = msgspec.structs.replace(parts.manifest, documents=tuple(paper.record for paper in own))
    bundle = pack(manifest, parts.blobs | {paper.record.digest: paper.data for paper in own}, tmp_path / "out")
    assert layers_of(bundle) == {variant: (LAYER,)}
    page = tmp_path / "page.html"
    assert run(["report", "--bundle", str(bundle.path), "-o", str(page)]) == 0
    text = page.read_text()
    assert f"Layer by layer: {variant}" in text and "31.2" in text
    assert "2 variants are in the bundle." in text


def test_a_bundle_without_that_paper_has_none(bundle: Any) -> None:
    assert layers_of(bundle) == {}

"""What was measured before: every report of `edgepack bench`, kept below `$EDGEPACK_HOME`, never changed.

    bench/NAME/TARGET/TIME-DIGEST.json

One file a report, written whole or not at all: two commands at once, or one that is killed, lose nothing.
"""

from __future__ import annotations

from edgepack.history.keeping import baseline, everything, folder, given_baseline, keep, recall
from edgepack.history.series import Point, Series, series

__all__ = ["Point", "Series", "baseline", "everything", "folder", "given_baseline", "keep", "recall", "series"]

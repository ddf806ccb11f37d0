"""Bundles between this machine's files, its store and registries; and the one answer to what a word for BUNDLE means."""

from edgepack.exchange.moving import Fetched, Published, fetch, publish
from edgepack.exchange.naming import fetch_model, open_word, source_of

__all__ = ["Fetched", "Published", "fetch", "fetch_model", "open_word", "publish", "source_of"]

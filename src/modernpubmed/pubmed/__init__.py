"""NLM's XML in, articles out: read, parsed, and brought to their latest state."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from modernpubmed.pubmed.order import nlm_order
from modernpubmed.pubmed.parse import ParseCounts, parse

if TYPE_CHECKING:
    from modernpubmed.articles import read_articles
    from modernpubmed.pubmed.store import parse_files

__all__ = ["ParseCounts", "nlm_order", "parse", "parse_files", "read_articles"]

# Read when they are first asked for: who only parses needs no Arrow, which is half of the memory.
_HOMES = {
    "parse_files": "modernpubmed.pubmed.store",
    "read_articles": "modernpubmed.articles",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)

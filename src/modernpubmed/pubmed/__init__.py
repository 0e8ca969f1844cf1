"""NLM's XML in, articles out: read, parsed, and brought to their latest state."""

from modernpubmed.pubmed.parse import ParseCounts, parse
from modernpubmed.pubmed.store import nlm_order, parse_files, read_articles

__all__ = ["ParseCounts", "nlm_order", "parse", "parse_files", "read_articles"]

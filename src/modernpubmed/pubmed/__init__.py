"""NLM's XML in, articles out: read, parsed, and brought to their latest state."""

from modernpubmed.articles import read_articles
from modernpubmed.pubmed.order import nlm_order
from modernpubmed.pubmed.parse import ParseCounts, parse
from modernpubmed.pubmed.store import parse_files

__all__ = ["ParseCounts", "nlm_order", "parse", "parse_files", "read_articles"]

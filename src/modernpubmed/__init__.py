"""ModernPubMed: medical text embeddings, from PubMed's XML to answers.

Three names are enough for a start: ``Encoder`` turns texts into vectors, ``Article`` and ``Pair``
are what the rest of the package is about. See the README.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modernpubmed.encoder import Encoder
    from modernpubmed.errors import ModernPubMedError
    from modernpubmed.records import Article, Pair

__all__ = ["Article", "Encoder", "ModernPubMedError", "Pair"]

# Read when they are first asked for: a program that only imports us does not wait for NumPy.
_HOMES = {
    "Article": "modernpubmed.records",
    "Encoder": "modernpubmed.encoder",
    "ModernPubMedError": "modernpubmed.errors",
    "Pair": "modernpubmed.records",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)

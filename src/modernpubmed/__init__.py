"""ModernPubMed: medical text embeddings, from PubMed's XML to answers.

Three names are enough for a start: ``Encoder`` turns texts into vectors, ``Article`` and ``Pair``
are what the rest of the package is about. See the README.
"""

from modernpubmed.encoder import Encoder
from modernpubmed.errors import ModernPubMedError
from modernpubmed.records import Article, Pair

__all__ = ["Article", "Encoder", "ModernPubMedError", "Pair"]

"""What the rooms ask of an encoder, so that none of them imports one.

``modernpubmed.encoder.Encoder`` is a ``TextEncoder``; anything else that has these members is one
too. Texts are given by position. Vectors are finite float32 rows of length 1, in the order of the
texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class DocumentEncoder(Protocol):
    """What is needed where all texts are of one kind: matching and classifying."""

    @property
    def name(self) -> str:
        """Short name, for tables and manifests."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what decides its vectors: two encoders that share it agree."""

    @property
    def dimension(self) -> int:
        """The length d of its vectors."""

    @property
    def truncated(self) -> int:
        """How many texts were cut so far."""

    def encode_document(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        """Vectors of documents, [n, d]."""


class TextEncoder(DocumentEncoder, Protocol):
    """What is needed where queries meet documents: searching and evaluating."""

    def encode(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        """Vectors of texts without a prompt, [n, d]."""

    def encode_query(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        """Vectors of queries, [n, d]."""

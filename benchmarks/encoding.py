"""Our encoder against sentence-transformers: the same folder, the same texts, fp32, the CPU."""

from __future__ import annotations

import numpy as np
from sentence_transformers import SentenceTransformer

from _side_by_side import side_by_side
from modernpubmed import Encoder
from modernpubmed.concepts import hpo
from modernpubmed.encoder.encoder import SHIPPED_MODEL


def main() -> None:
    """Names (about 7 tokens) and definitions (about 35) of the Human Phenotype Ontology."""
    concepts = [concept for concept in hpo().concepts if concept.definition]
    names = [concept.name for concept in concepts[::32]]
    definitions = [concept.definition or "" for concept in concepts[::64]]
    ours = Encoder.load()
    theirs = SentenceTransformer(str(SHIPPED_MODEL), device="cpu")
    for what, texts in (("names", names), ("definitions", definitions)):
        reference = theirs.encode(texts, normalize_embeddings=True)
        agreement = float((ours.encode(texts) * np.asarray(reference)).sum(axis=1).min())
        assert agreement > 0.9999, agreement
        side_by_side(
            f"encode {len(texts)} {what}: Encoder against SentenceTransformer",
            lambda texts=texts: ours.encode(texts),  # type: ignore[misc]
            lambda texts=texts: theirs.encode(texts, normalize_embeddings=True),  # type: ignore[misc]
        )


if __name__ == "__main__":
    main()

"""BM25, the baseline that stands beside every model.

Through the library ``bm25s`` (Lù 2024, https://arxiv.org/abs/2407.03618), in Lucene's variant
with k1 = 1.5 and b = 0.75; words are runs of two or more word characters in lower case, without
Lucene's 33 English stop words, not stemmed. As in Lucene a document without any word of the query
is not found at all, so a run may be shorter than k. Given up: a stemmer, which would lift the
baseline a little on running text and blur it on terms, and would need one library more.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from typing import Any

import numpy as np

from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation.ranking import Run, id_order
from modernpubmed.suites import Suite

#: The name under which its results stand in tables.
BM25 = "BM25"

_PARAMETERS: Mapping[str, Any] = {"method": "lucene", "k1": 1.5, "b": 0.75}


def bm25_settings() -> dict[str, Any]:
    """What the figures depend on, for the manifest."""
    return {
        **_PARAMETERS,
        "stopwords": "en",
        "stemmer": None,
        "bm25s": metadata.version("bm25s"),
    }


def rank_bm25(suite: Suite, k: int = 100) -> Run:
    """The k documents of the highest BM25 score for each query, ties by id as in ``rank``.

    Returns:
        The run, ``[n, k]``, filled up with -1 and ``-inf``.

    Raises:
        ModernPubMedError: No document holds a word.

    >>> corpus = ("Chronic pain.", "Fever.")
    >>> suite = Suite("tiny", ("q",), ("acute fever",), ("a", "b"), corpus, {"q": {"b": 1}})
    >>> rank_bm25(suite, k=2).documents.tolist()
    [[1, -1]]
    """
    import bm25s

    order = id_order(suite.corpus_ids)
    # Indexed in the order of the ids, so that the lower position wins a tie.
    words = bm25s.tokenize(
        [suite.corpus[position] for position in order], stopwords="en", show_progress=False
    )
    if not words.vocab or not any(words.ids):
        raise ModernPubMedError(
            "no document holds a word that BM25 could find",
            file=suite.name,
            remedy="check the corpus: are the texts in another script or only stop words?",
        )
    index = bm25s.BM25(**_PARAMETERS)
    index.index(words, show_progress=False)
    queries = bm25s.tokenize(
        list(suite.queries), stopwords="en", return_ids=False, show_progress=False
    )
    documents = np.full((len(queries), k), -1, dtype=np.int64)
    scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    for row, query in enumerate(queries):
        known = [word for word in query if word in words.vocab]
        if not known:
            continue
        values = index.get_scores(known)
        found = np.flatnonzero(values > 0)
        if len(found) > k:
            found = found[values[found] >= np.partition(values[found], -k)[-k]]
        best = found[np.argsort(-values[found], kind="stable")][:k]
        documents[row, : len(best)] = order[best]
        scores[row, : len(best)] = values[best]
    return Run(documents, scores)

"""The queries that the first model loses most on, and what each model returned for them.

A mean says that a model is behind, not what it does wrong. Looking at its worst queries beside a
rival's answers does. What was returned is read from the run files that an evaluation leaves
beside its results; only the queries that are shown are taken out of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation.comparison import Answer, Document, HurtQuery
from modernpubmed.evaluation.evaluate import Result, run_path
from modernpubmed.lines import text_lines
from modernpubmed.suites import Suite

#: Queries shown for each suite and rival.
QUERIES = 10
#: Documents shown of each model's answer.
DOCUMENTS = 5

_RELEVANT = 10
_LONGEST = 600

# Documents and scores by query id.
_Found = dict[str, list[tuple[str, float]]]


def worst_hurt(
    suite: Suite, results: Sequence[Result], metric: str, runs: str | Path | None
) -> tuple[HurtQuery, ...]:
    """Where the first result's model loses most against each of the others.

    Args:
        suite: What they were measured on; gives the texts.
        results: One a model, the first model first.
        metric: By which metric, in sentence-transformers' convention.
        runs: The folder of their run files; without it, or where one is missing, the answers
            hold no documents.

    Returns:
        For each rival in turn up to ``QUERIES`` queries with a loss, the largest first, equal
        ones in the suite's order.

    Raises:
        ModernPubMedError: A run file names a document that the suite does not have.
    """
    scores = np.array([result.per_query[metric] for result in results])
    chosen = [
        (rival, [row for row in np.argsort(-loss, kind="stable")[:QUERIES] if loss[row] > 0])
        for rival, loss in enumerate(scores - scores[0])
    ]
    wanted = {suite.query_ids[row] for _, rows in chosen for row in rows}
    files = [
        None if runs is None else run_path(runs, result.model, suite.name) for result in results
    ]
    found = [_found(file, wanted, suite) for file in files]
    texts = dict(zip(suite.corpus_ids, suite.corpus, strict=True))
    hurt = []
    for rival, rows in chosen:
        for row in rows:
            query_id = suite.query_ids[row]
            grades = suite.qrels[query_id]
            relevant = sorted(suite.relevant(query_id), key=lambda each: (-grades[each], each))
            hurt.append(
                HurtQuery(
                    suite=suite.name,
                    rival=results[rival].model,
                    query_id=query_id,
                    query=_shown(suite.queries[row]),
                    loss=float(scores[rival, row] - scores[0, row]),
                    relevant=tuple(
                        Document(each, _shown(texts[each]), grades[each])
                        for each in relevant[:_RELEVANT]
                    ),
                    relevant_count=len(relevant),
                    answers=tuple(
                        _answer(result.model, float(value), run, query_id, suite, texts)
                        for result, run, value in zip(results, found, scores[:, row], strict=True)
                    ),
                )
            )
    return tuple(hurt)


def _answer(
    model: str,
    value: float,
    run: _Found | None,
    query_id: str,
    suite: Suite,
    texts: Mapping[str, str],
) -> Answer:
    if run is None:
        return Answer(model, value, None, None)
    listed, relevant = run.get(query_id, []), suite.relevant(query_id)
    ranks = [rank for rank, (document, _) in enumerate(listed, start=1) if document in relevant]
    documents = tuple(
        Document(each, _shown(texts[each]), max(suite.qrels[query_id].get(each, 0), 0), score)
        for each, score in listed[:DOCUMENTS]
    )
    return Answer(model, value, documents, ranks[0] if ranks else None)


def _found(file: Path | None, wanted: Collection[str], suite: Suite) -> _Found | None:
    """The documents and scores of some queries in a run file of ours, in its order."""
    if file is None or not file.is_file():
        return None
    found: _Found = {}
    known = frozenset(suite.corpus_ids)
    # A run has a hundred lines a query: only what is wanted is taken apart.
    for _, line in text_lines(file):
        if line.partition(" ")[0] in wanted:
            query, _, document, _, score, _ = line.split()
            if document not in known:
                raise ModernPubMedError(
                    f"the document {document!r} is not in the suite {suite.name}",
                    file=file,
                    remedy="evaluate again: the run was made on another version",
                )
            found.setdefault(query, []).append((document, float(score)))
    return found


def _shown(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1].rstrip() + "…"

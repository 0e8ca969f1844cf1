"""A test suite of one's own corpus: does a held-out title find its abstract?

Queries are titles, documents their abstracts and those of other articles ("distractors"), all
published in the same span of time. With ``since`` set to a day after the training data end, the
suite holds nothing that a model can have learnt by heart. Which articles make a query is decided by
the rules that decide which make a training pair (``select``, ``deduplicate``); beside them an
abstract that opens with its own title is left out, since it asks nothing.

Articles are drawn by hash of PMID and seed, so that the same source always gives the same suite
and a larger source keeps most of it. Distractors come from the same span as the queries: abstracts
of another time would be too easy to tell apart.

Given up: near-duplicates (a preprint beside its article), and more than one answer to a title.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from modernpubmed.articles import is_corpus
from modernpubmed.errors import ModernPubMedError
from modernpubmed.folding import fingerprint, folded
from modernpubmed.manifest import MANIFEST_NAME, sha256
from modernpubmed.pairs.dates import Asked, asked_span, outside
from modernpubmed.pairs.deduplicate import deduplicate
from modernpubmed.pairs.select import MIN_ABSTRACT, Tally, select_one
from modernpubmed.pairs.store import read_records, table_path
from modernpubmed.records import Article, Pair
from modernpubmed.suites import Suite

#: Why an article is in no suite, beside the reasons of ``dates``, ``select`` and ``deduplicate``.
OPENS_WITH_TITLE = "abstract opens with its title"
NOT_DRAWN = "not drawn"


def title_abstract_suite(
    source: str | Path,
    *,
    queries: int,
    distractors: int,
    since: str | date | None = None,
    until: str | date | None = None,
    seed: int = 0,
    name: str = "pubmed_titles",
) -> Suite:
    """Titles as queries, their abstracts and others as documents; ids are PMIDs.

    Memory grows with the number of usable articles by some 50 bytes each (for repetitions), and
    with ``queries + distractors`` texts.

    Args:
        source: A table of articles or of title–abstract pairs, a folder that holds one, or a
            corpus, as ``build_pairs`` takes it.
        queries: How many titles to ask with.
        distractors: How many abstracts to add to theirs.
        since: First day of the span: ``2024``, ``2024-03`` or ``2024-03-15``; None is any. Pairs
            have only a year.
        until: Last day, likewise.
        seed: Another one draws other articles.
        name: The suite's.

    Returns:
        The suite, in the order of its ids. ``dropped`` counts every record that is not in it.

    Raises:
        ModernPubMedError: A number or date is none, the span is empty, the source is bad or of
            another kind of pairs, or fewer articles are usable than asked for.
    """
    if queries < 1 or distractors < 0:
        raise ModernPubMedError(
            f"{queries} queries and {distractors} distractors",
            remedy="ask for at least one query, and no negative number of distractors",
        )
    span = asked_span(since, until)
    table = Path(source) if is_corpus(Path(source)) else table_path(Path(source))
    tally = Tally()
    pairs = deduplicate(_selected(table, span, tally), tally)
    wanted = queries + distractors
    usable = 0

    def hashed() -> Iterator[tuple[int, str, Pair]]:
        nonlocal usable
        for usable, pair in enumerate(pairs, start=1):  # noqa: B007 - the count outlives the loop
            identifier = _id(pair)
            yield fingerprint(f"{seed}\n{identifier}"), identifier, pair

    drawn = heapq.nsmallest(wanted, hashed(), key=lambda entry: entry[:2])
    if len(drawn) < wanted:
        reasons = ", ".join(f"{reason} {count}" for reason, count in tally.dropped.most_common())
        raise ModernPubMedError(
            f"{len(drawn)} usable articles, {wanted} wanted (left out: {reasons or 'none'})",
            file=table,
            remedy="ask for fewer queries or distractors, or give a larger corpus or a wider span",
        )
    tally.dropped[NOT_DRAWN] += usable - wanted
    asked = {identifier: pair.anchor for _, identifier, pair in drawn[:queries]}
    texts = {identifier: pair.positive for _, identifier, pair in drawn}
    ids = sorted(asked, key=_order)
    documents = sorted(texts, key=_order)
    return Suite(
        name=name,
        query_ids=tuple(ids),
        queries=tuple(asked[identifier] for identifier in ids),
        corpus_ids=tuple(documents),
        corpus=tuple(texts[identifier] for identifier in documents),
        qrels={identifier: {identifier: 1} for identifier in ids},
        dropped={reason: count for reason, count in tally.dropped.most_common() if count},
        sources={table.name: sha256(table / MANIFEST_NAME if table.is_dir() else table)},
    )


def _selected(table: Path, asked: Asked, tally: Tally) -> Iterator[Pair]:
    for number, record in enumerate(read_records(table), start=1):
        if isinstance(record, Pair) and record.kind != "title-abstract":
            raise ModernPubMedError(
                f"this pair is of the kind {record.kind}",
                file=table,
                record=f"pair {number}",
                remedy="give articles or title-abstract pairs",
            )
        text = record.date if isinstance(record, Article) else None
        reason = outside(text, record.year, asked)
        if reason is not None:
            tally.dropped[reason] += 1
            continue
        before = tally.noted[OPENS_WITH_TITLE]
        pair = select_one(record, tally, min_abstract=MIN_ABSTRACT, source=table.name)
        if pair is None:
            continue
        if tally.noted[OPENS_WITH_TITLE] > before:
            tally.dropped[OPENS_WITH_TITLE] += 1
            continue
        yield pair


def _id(pair: Pair) -> str:
    if pair.pmid is not None:
        return str(pair.pmid)
    return f"title-{fingerprint(folded(pair.anchor)):016x}"


def _order(identifier: str) -> tuple[int, str]:
    return len(identifier), identifier

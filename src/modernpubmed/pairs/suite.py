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

from modernpubmed.errors import ModernPubMedError
from modernpubmed.folding import fingerprint, folded
from modernpubmed.manifest import sha256
from modernpubmed.pairs.dates import Span, day_of, publication_span
from modernpubmed.pairs.deduplicate import deduplicate
from modernpubmed.pairs.select import MIN_ABSTRACT, Tally, select_one
from modernpubmed.pairs.store import read_records, table_path
from modernpubmed.records import Article, Pair
from modernpubmed.suites import Suite

#: Why an article is in no suite, beside the reasons of ``select`` and ``deduplicate``.
TOO_EARLY, TOO_LATE = "published before the span", "published after the span"
NO_DATE, INEXACT = "no publication date", "publication date not exact enough"
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

    Memory grows with the number of usable articles by some 250 bytes each (for repetitions), and
    with ``queries + distractors`` texts.

    Args:
        source: A table of articles or of title–abstract pairs, or a folder that holds one, as
            ``build_pairs`` takes it.
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
    first, last = _day(since, last=False), _day(until, last=True)
    if first is not None and last is not None and first > last:
        raise ModernPubMedError(
            f"nothing lies between {first} and {last}", remedy="give since before until"
        )
    table = table_path(Path(source))
    tally = Tally()
    pairs = deduplicate(_selected(table, (first, last), tally), tally)
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
        sources={table.name: sha256(table)},
    )


def _selected(table: Path, span: tuple[date | None, date | None], tally: Tally) -> Iterator[Pair]:
    for number, record in enumerate(read_records(table), start=1):
        if isinstance(record, Pair) and record.kind != "title-abstract":
            raise ModernPubMedError(
                f"this pair is of the kind {record.kind}",
                file=table,
                record=f"pair {number}",
                remedy="give articles or title-abstract pairs",
            )
        reason = _outside(record, span)
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


def _outside(record: Article | Pair, span: tuple[date | None, date | None]) -> str | None:
    """Why the record is not known to lie in the span; None where it is."""
    first, last = span
    if first is None and last is None:
        return None
    text = record.date if isinstance(record, Article) else None
    published: Span | None = publication_span(text, record.year)
    if published is None:
        return NO_DATE
    if first is not None and published[1] < first:
        return TOO_EARLY
    if last is not None and published[0] > last:
        return TOO_LATE
    whole = (first is None or first <= published[0]) and (last is None or published[1] <= last)
    return None if whole else INEXACT


def _id(pair: Pair) -> str:
    if pair.pmid is not None:
        return str(pair.pmid)
    return f"title-{fingerprint(folded(pair.anchor)):016x}"


def _order(identifier: str) -> tuple[int, str]:
    return len(identifier), identifier


def _day(text: str | date | None, *, last: bool) -> date | None:
    if text is None:
        return None
    day = day_of(text, last=last)
    if day is None:
        raise ModernPubMedError(
            f"{text!r} is no date", remedy="write it as 2024, 2024-03 or 2024-03-15"
        )
    return day

"""Exact de-duplication, streaming: the first pair with a PMID, an anchor or a positive wins.

Two pairs with one positive are one pair twice; two with one anchor ("Migraines.") would be false
negatives of each other in a batch. Texts are compared after ``folded``, by 64-bit hash: among
40 million pairs the odds that any two different texts collide are about 1 in 20,000.

Pairs of a concept are otherwise: several of them share a name, and must. There a pair is dropped
if it was there before, either way round, or if one of its texts belongs to another concept, the
first that came with it.

Given up: near-duplicates, and memory. Three sets of hashes take about 250 bytes a pair (15 MB for
60,000); a corpus of tens of millions needs a sort on disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from modernpubmed.folding import fingerprint, folded
from modernpubmed.pairs.select import Tally
from modernpubmed.records import Pair


class Seen:
    """The pairs so far, and whether another one repeats them."""

    __slots__ = ("_anchors", "_owners", "_pairs", "_pmids", "_positives")

    def __init__(self) -> None:
        self._pmids: set[tuple[int, str]] = set()
        self._anchors: set[int] = set()
        self._positives: set[int] = set()
        self._pairs: set[tuple[int, int]] = set()
        self._owners: dict[int, str] = {}

    def repeats(self, pair: Pair) -> str | None:
        """Why the pair is to be dropped, as in ``deduplicate``; None takes it in."""
        anchor, positive = (fingerprint(folded(text)) for text in (pair.anchor, pair.positive))
        if pair.concept is not None:
            return self._repeats_of_concept(pair.concept, anchor, positive)
        identity = None if pair.pmid is None else (pair.pmid, pair.kind)
        if identity in self._pmids:
            return "same PMID"
        if anchor in self._anchors:
            return "same anchor"
        if positive in self._positives:
            return "same positive"
        if anchor == positive:
            return "anchor equals positive"
        if identity is not None:
            self._pmids.add(identity)
        self._anchors.add(anchor)
        self._positives.add(positive)
        return None

    def _repeats_of_concept(self, concept: str, anchor: int, positive: int) -> str | None:
        if anchor == positive:
            return "anchor equals positive"
        if self._owners.get(anchor, concept) != concept:
            return "ambiguous name"
        if self._owners.get(positive, concept) != concept:
            return "same positive"
        both = (min(anchor, positive), max(anchor, positive))
        if both in self._pairs:
            return "same pair"
        self._pairs.add(both)
        self._owners[anchor] = self._owners[positive] = concept
        return None


def deduplicate(pairs: Iterable[Pair], tally: Tally) -> Iterator[Pair]:
    """The pairs that repeat none before them, in their order.

    Without a concept: PMID, anchor and positive all are new. A PMID identifies an article, so it
    is only compared among pairs of one ``kind``. With a concept: the two texts are new together,
    whichever is the anchor, and neither belongs to another concept. A pair whose anchor is its
    positive teaches nothing and is dropped as well.

    Args:
        pairs: Any pairs.
        tally: ``dropped`` is counted, while the result is consumed, under the first that holds:
            ``same PMID``, ``same anchor``, ``same positive``, ``anchor equals positive``; of pairs
            with a concept ``anchor equals positive``, ``ambiguous name`` (the anchor is another
            concept's), ``same positive`` (the positive is), ``same pair``.

    >>> tally = Tally()
    >>> kept = deduplicate([Pair("Gout", "A joint …"), Pair("GOUT.", "Urate …")], tally)
    >>> [pair.positive for pair in kept], dict(tally.dropped)
    (['A joint …'], {'same anchor': 1})
    """
    seen = Seen()
    for pair in pairs:
        reason = seen.repeats(pair)
        if reason is None:
            yield pair
        else:
            tally.dropped[reason] += 1

"""Exact de-duplication, streaming: the first pair with a PMID, an anchor or a positive wins.

Two pairs with one positive are one pair twice; two with one anchor ("Migraines.") would be false
negatives of each other in a batch. Texts are compared after ``folded``, by 64-bit hash: among
40 million pairs the odds that any two different texts collide are about 1 in 20,000.

Pairs of a concept are otherwise: several of them share a name, and must. There a pair is dropped
if it was there before, either way round, or if one of its texts belongs to another concept, the
first that came with it.

Memory: three tables of hashes take 35 to 50 bytes a pair (see ``table``), half a gigabyte for ten
million. A text that is not quite the same is ``near``'s business.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from zlib import crc32

from modernpubmed.folding import fingerprint, folded
from modernpubmed.pairs.select import Tally
from modernpubmed.pairs.table import HashTable, scattered
from modernpubmed.records import Pair


class Seen:
    """The pairs so far, and whether another one repeats them."""

    __slots__ = ("_anchors", "_owners", "_pairs", "_pmids", "_positives")

    def __init__(self) -> None:
        self._pmids = HashTable()
        self._anchors = HashTable()
        self._positives = HashTable()
        self._pairs = HashTable()
        self._owners = HashTable(values="uint64")

    @property
    def nbytes(self) -> int:
        """Bytes that it takes, small change apart."""
        tables = (self._pmids, self._anchors, self._positives, self._pairs, self._owners)
        return sum(table.nbytes for table in tables)

    def repeats(self, pair: Pair) -> str | None:
        """Why the pair is to be dropped, as in ``deduplicate``; None takes it in."""
        anchor, positive = (fingerprint(folded(text)) for text in (pair.anchor, pair.positive))
        identity = identity_of(pair)
        reason = self.reason(identity, anchor, positive, concept=pair.concept)
        if reason is None:
            self.add(identity, anchor, positive, concept=pair.concept)
        return reason

    def reason(
        self, identity: int | None, anchor: int, positive: int, *, concept: str | None = None
    ) -> str | None:
        """Why a pair is to be dropped, as in ``deduplicate``; takes nothing in.

        Args:
            identity: ``identity_of`` the pair.
            anchor: The fingerprint of its folded anchor.
            positive: That of its folded positive.
            concept: Its concept.
        """
        if concept is not None:
            return self._reason_of_concept(fingerprint(concept), anchor, positive)
        if identity is not None and identity in self._pmids:
            return "same PMID"
        if anchor in self._anchors:
            return "same anchor"
        if positive in self._positives:
            return "same positive"
        if anchor == positive:
            return "anchor equals positive"
        return None

    def add(
        self, identity: int | None, anchor: int, positive: int, *, concept: str | None = None
    ) -> None:
        """Takes a pair in that is kept; arguments as in ``reason``."""
        if concept is not None:
            owner = fingerprint(concept)
            self._pairs.add(_both(anchor, positive))
            self._owners.add(anchor, owner)
            self._owners.add(positive, owner)
            return
        if identity is not None:
            self._pmids.add(identity)
        self._anchors.add(anchor)
        self._positives.add(positive)

    def _reason_of_concept(self, concept: int, anchor: int, positive: int) -> str | None:
        if anchor == positive:
            return "anchor equals positive"
        if self._owners.find(anchor) not in (-1, concept):
            return "ambiguous name"
        if self._owners.find(positive) not in (-1, concept):
            return "same positive"
        return "same pair" if _both(anchor, positive) in self._pairs else None


def identity_of(pair: Pair) -> int | None:
    """A hash of the PMID and the kind of a pair: a PMID is an article, not a pair of each kind."""
    return None if pair.pmid is None else scattered(pair.pmid + (crc32(pair.kind.encode()) << 32))


def _both(anchor: int, positive: int) -> int:
    return scattered(min(anchor, positive) + scattered(max(anchor, positive)))


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

"""Exact de-duplication, streaming: the first pair with a PMID, an anchor or a positive wins.

Two pairs with one positive are one pair twice; two with one anchor ("Migraines.") would be false
negatives of each other in a batch. Texts are compared after ``folded``, by 64-bit hash: among
40 million pairs the odds that any two different texts collide are about 1 in 20,000.

Given up: near-duplicates, and memory. Three sets of hashes take about 250 bytes a pair (15 MB for
60,000); a corpus of tens of millions needs a sort on disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from modernpubmed.pairs.folding import fingerprint, folded
from modernpubmed.pairs.select import Tally
from modernpubmed.records import Pair


def deduplicate(pairs: Iterable[Pair], tally: Tally) -> Iterator[Pair]:
    """The pairs whose PMID, anchor and positive all are new, in their order.

    A PMID identifies an article, so it is only compared among pairs of one ``kind``. A pair whose
    anchor is its positive teaches nothing and is dropped as well.

    Args:
        pairs: Any pairs.
        tally: ``dropped`` is counted as ``same PMID``, ``same anchor``, ``same positive`` or
            ``anchor equals positive``, the first that holds, while the result is consumed.

    >>> tally = Tally()
    >>> kept = deduplicate([Pair("Gout", "A joint …"), Pair("GOUT.", "Urate …")], tally)
    >>> [pair.positive for pair in kept], dict(tally.dropped)
    (['A joint …'], {'same anchor': 1})
    """
    pmids: set[tuple[int, str]] = set()
    anchors: set[int] = set()
    positives: set[int] = set()
    for pair in pairs:
        identity = None if pair.pmid is None else (pair.pmid, pair.kind)
        anchor, positive = (fingerprint(folded(text)) for text in (pair.anchor, pair.positive))
        if identity in pmids:
            tally.dropped["same PMID"] += 1
        elif anchor in anchors:
            tally.dropped["same anchor"] += 1
        elif positive in positives:
            tally.dropped["same positive"] += 1
        elif anchor == positive:
            tally.dropped["anchor equals positive"] += 1
        else:
            if identity is not None:
                pmids.add(identity)
            anchors.add(anchor)
            positives.add(positive)
            yield pair

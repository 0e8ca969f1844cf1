"""When two texts, or two articles, are too alike to be each other's negatives.

Contrastive training calls every other document of a batch wrong. Some are not: the article again,
a near-identical text (two parts of one report, a republication), a comment on it, an article with
almost the same MeSH headings. Mining hard negatives and masking false ones both ask here.

Near-duplicates are found by MinHash with banding (Broder 1997; Leskovec, Rajaraman & Ullman,
*Mining of Massive Datasets*, ch. 3): a text gets ``BANDS`` keys, and two texts that share one are
taken for near-duplicates. With w = 3 words a shingle and r = 4 hashes a band, texts whose shingle
sets have Jaccard similarity J share a key with probability 1 - (1 - J^4)^8: 99.9 % at J = 0.9,
98 % at 0.8, 40 % at 0.5, 0.6 % at 0.2. Given up: exactness at the border; a pair kept apart for
nothing costs nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from modernpubmed.folding import folded

#: Keys a text.
BANDS = 8
#: Hashes that must agree for a key to.
ROWS = 4
#: Words a shingle.
SHINGLE = 3

#: From which overlap of MeSH headings on two articles are taken for one subject. Of 8,128 pairs of
#: articles in NLM's own files one reaches it, two papers on one cohort; the unrelated reach
#: 0.3 at most.
MESH_OVERLAP = 0.4

#: What nearly every clinical article is indexed with ("check tags", NLM's indexing manual, and
#: the age groups): sharing these says nothing about a shared subject.
CHECK_TAGS = frozenset(
    (
        "Humans", "Animals", "Male", "Female", "Pregnancy", "Adult", "Aged", "Middle Aged",
        "Aged, 80 and over", "Adolescent", "Child", "Child, Preschool", "Infant",
        "Infant, Newborn", "Young Adult", "Mice", "Rats", "Cats", "Cattle", "Chickens",
        "Cricetinae", "Dogs", "Guinea Pigs", "Rabbits", "Swine", "In Vitro Techniques",
        "Comparative Study", "History, 20th Century", "History, 21st Century", "United States",
        "Retrospective Studies", "Prospective Studies", "Treatment Outcome", "Risk Factors",
        "Time Factors", "Follow-Up Studies", "Cohort Studies", "Cross-Sectional Studies",
    )
)  # fmt: skip

# Random odd multipliers and offsets of 64-bit multiply-shift hashing (Dietzfelbinger et al. 1997).
_RANDOM = np.random.default_rng(20261122)
_MULTIPLIERS = _RANDOM.integers(1, 2**63, BANDS * ROWS, dtype=np.uint64) * np.uint64(2) + np.uint64(
    1
)
_OFFSETS = _RANDOM.integers(0, 2**63, BANDS * ROWS, dtype=np.uint64)


def near_duplicate_keys(text: str) -> NDArray[np.uint64]:
    """The keys of a text; two texts that share one at the same place are near-duplicates.

    Case, spacing and punctuation do not count. The keys are the same on every platform.

    Returns:
        ``[BANDS]``, uint64.

    >>> one = near_duplicate_keys("Aspirin after stroke: a randomised trial in 214 patients.")
    >>> two = near_duplicate_keys("aspirin after stroke – a randomised trial in 214 patients")
    >>> bool((one == two).all())
    True
    >>> other = near_duplicate_keys("Statins before surgery: a cohort study of 2,000 patients.")
    >>> bool((one == other).any())
    False
    """
    words = np.fromiter((crc32(word.encode()) for word in folded(text).split()), dtype=np.uint64)
    with np.errstate(over="ignore"):
        width = min(SHINGLE, len(words))
        count = len(words) - width + 1
        shingles = np.zeros(max(count, 1), dtype=np.uint64)
        for place in range(width):
            shingles = shingles * np.uint64(0x9E3779B97F4A7C15) + words[place : place + count]
        shingles ^= shingles >> np.uint64(29)
        hashes = (shingles[:, None] * _MULTIPLIERS + _OFFSETS) >> np.uint64(16)
        smallest = hashes.min(axis=0).reshape(BANDS, ROWS)
        keys = np.zeros(BANDS, dtype=np.uint64)
        for row in range(ROWS):
            keys = keys * np.uint64(0xBF58476D1CE4E5B9) + smallest[:, row]
    return keys


def mesh_overlap(first: Collection[str], second: Collection[str]) -> float:
    """Jaccard similarity of two articles' MeSH headings, check tags left out; 0 to 1.

    >>> mesh_overlap({"Humans", "Gout", "Colchicine"}, {"Humans", "Gout", "Allopurinol"})
    0.3333333333333333
    >>> mesh_overlap({"Humans"}, {"Humans"})
    0.0
    """
    one, two = set(first) - CHECK_TAGS, set(second) - CHECK_TAGS
    return len(one & two) / len(one | two) if one and two else 0.0

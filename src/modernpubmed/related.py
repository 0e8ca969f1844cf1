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

Where a shared key is not enough, because a pair would be dropped or a suite called seen, it only
makes two texts candidates, and J decides: counted exactly where both texts are at hand
(``KnownTexts``), estimated where only a sketch of the one is left (``signatures``). The keys are
ours and never change, since they lie on disk beside token ids; the signatures are those of the
library rensa, live no longer than a run, and take it a tenth of NumPy's time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from modernpubmed.folding import fingerprint, folded

#: Keys a text.
BANDS = 8
#: Hashes that must agree for a key to.
ROWS = 4
#: Words a shingle.
SHINGLE = 3
#: Numbers in a signature. The standard error of the similarity estimated from two is 0.035 at 0.8.
SIGNATURE = 128

#: From which Jaccard similarity of their shingles on two texts are near-duplicates.
NEAR = 0.7
#: Below this many words a text is compared as a whole only: one word of four is another meaning.
FEWEST_WORDS = 6

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
_SEED = 20261122
# Words whose hashes are kept at most: 100 MB of them, and new texts seldom hold a new one.
_MOST_WORDS = 1_000_000

_Numbers = NDArray[np.uint64]


class _Words(dict[str, int]):
    """The hash of each word; those of a language are few, and looked up faster than computed."""

    def __missing__(self, word: str) -> int:
        if len(self) >= _MOST_WORDS:
            self.clear()
        self[word] = number = crc32(word.encode())
        return number


_words = _Words()


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
    return keys_of(shingles_of(folded(text)))


def shingles_of(text: str, width: int = SHINGLE) -> _Numbers:
    """The hashes of a text's shingles, in their order and as often as they come.

    Args:
        text: As ``folded`` gives it.
        width: Words a shingle; a text of fewer is one shingle.

    Returns:
        ``[n]``, uint64; at least one.
    """
    parts = text.split()
    words = np.fromiter(map(_words.__getitem__, parts), dtype=np.uint64, count=len(parts))
    width = min(width, len(words))
    count = len(words) - width + 1
    shingles = np.zeros(max(count, 1), dtype=np.uint64)
    for place in range(width):
        shingles *= np.uint64(0x9E3779B97F4A7C15)
        shingles += words[place : place + count]
    shingles ^= shingles >> np.uint64(29)
    return shingles


def keys_of(shingles: _Numbers) -> _Numbers:
    """``near_duplicate_keys`` of the text with these shingles."""
    hashes = np.multiply.outer(_MULTIPLIERS, shingles)
    hashes += _OFFSETS[:, None]
    smallest = (hashes >> np.uint64(16)).min(axis=1).reshape(BANDS, ROWS)
    keys = np.zeros(BANDS, dtype=np.uint64)
    for row in range(ROWS):
        keys *= np.uint64(0xBF58476D1CE4E5B9)
        keys += smallest[:, row]
    return keys


def signatures(shingles: Sequence[_Numbers]) -> NDArray[np.uint8]:
    """MinHash signatures of texts, cut to a byte a number (Li & König 2010, arXiv:0908.1466).

    They are of one version of the library: nothing to be stored.

    Args:
        shingles: Those of each text.

    Returns:
        ``[n, SIGNATURE]``, uint8.
    """
    from rensa import RMinHash

    if not shingles:
        return np.zeros((0, SIGNATURE), dtype=np.uint8)
    ends = np.cumsum([0, *map(len, shingles)], dtype=np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(
        np.concatenate(shingles), ends, SIGNATURE, _SEED
    )
    return np.array(matrix.to_rows(), dtype=np.uint32).astype(np.uint8)


def estimated_jaccard(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """The Jaccard similarity of two texts' shingles as their signatures tell it.

    Two different numbers share their byte one time in 256, which is taken out again; so two
    unrelated texts are at 0 on average, and may be a little below.

    >>> texts = ("Aspirin after stroke: a trial.", "ASPIRIN AFTER STROKE – A TRIAL", "Statins")
    >>> one, two, other = signatures([shingles_of(folded(text)) for text in texts])
    >>> estimated_jaccard(one, two), estimated_jaccard(one, other) < 0.1
    (1.0, True)
    """
    share = int(np.count_nonzero(first == second)) / SIGNATURE
    return (share * 256 - 1) / 255


def jaccard(first: str, second: str) -> float:
    """The Jaccard similarity of the shingles of two texts, as ``folded`` gives them; 0 to 1.

    >>> jaccard("aspirin after a stroke", "aspirin after a fall")
    0.3333333333333333
    """
    one, two = _shingle_set(first), _shingle_set(second)
    return len(one & two) / len(one | two)


class KnownTexts:
    """Texts held in memory that others are compared with: the same, or a near-duplicate.

    The same are texts that ``folded`` makes equal. Near-duplicates share at least ``NEAR`` of
    the shingles of both (Jaccard similarity); the keys find 89 % of the pairs at 0.7 and 99.9 % at
    0.9, then the shingles are counted. A text of fewer than ``FEWEST_WORDS`` is only compared as a
    whole.

    >>> known = KnownTexts(["Aspirin after stroke: a trial in 214 patients", "Gout"])
    >>> known.same(fingerprint(folded("GOUT!")))
    [1]
    >>> text = folded("Aspirin after stroke: a trial in 214 patients (ASA)")
    >>> known.near(text, near_duplicate_keys(text).tolist())
    [0]
    """

    __slots__ = ("_exact", "_near", "texts")

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = [folded(text) for text in texts]
        self._exact: dict[int, list[int]] = {}
        self._near: dict[tuple[int, int], list[int]] = defaultdict(list)
        for place, text in enumerate(self.texts):
            self._exact.setdefault(fingerprint(text), []).append(place)
            if is_long(text):
                for band in enumerate(keys_of(shingles_of(text)).tolist()):
                    self._near[band].append(place)

    def same(self, mark: int) -> list[int]:
        """The places of the texts that are the same as one with this fingerprint, folded."""
        return self._exact.get(mark, [])

    def candidates(self, keys: Sequence[int]) -> list[int]:
        """The places of the texts that share a near-duplicate key with another, rising."""
        return sorted({p for band in enumerate(keys) for p in self._near.get(band, ())})

    def near(self, text: str, keys: Sequence[int]) -> list[int]:
        """The places of a text's near-duplicates, rising; the same text is one of them.

        Args:
            text: As ``folded`` gives it, of at least ``FEWEST_WORDS``.
            keys: Its ``near_duplicate_keys``.
        """
        return [p for p in self.candidates(keys) if jaccard(text, self.texts[p]) >= NEAR]


def is_long(text: str) -> bool:
    """Whether a folded text has the words that a near-duplicate must have."""
    return text.count(" ") >= FEWEST_WORDS - 1


def _shingle_set(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return {
        tuple(words[start : start + SHINGLE]) for start in range(max(len(words) - SHINGLE + 1, 1))
    }


def mesh_overlap(first: Collection[str], second: Collection[str]) -> float:
    """Jaccard similarity of two articles' MeSH headings, check tags left out; 0 to 1.

    >>> mesh_overlap({"Humans", "Gout", "Colchicine"}, {"Humans", "Gout", "Allopurinol"})
    0.3333333333333333
    >>> mesh_overlap({"Humans"}, {"Humans"})
    0.0
    """
    one, two = set(first) - CHECK_TAGS, set(second) - CHECK_TAGS
    return len(one & two) / len(one | two) if one and two else 0.0

"""What training pairs have in common with test suites, and taking it out.

A model that was trained on a suite's texts is not measured by it. Every text of a pair, and the
title and abstract of the article it was made of, is compared with every query and document of
every suite given (or sentence, where a suite is a file of sentence pairs): the same text, case,
spacing and punctuation apart, or a near-duplicate (``related.KnownTexts``; the test that
``evaluation.contamination`` makes of a model's pairs afterwards). A pair that matches is dropped,
under the first suite it matches, in the order they were given; it is counted under all of them.

The suites are held in memory, about 1 kB a text, and the pairs pass by once.

Given up: a suite's text that stands inside a longer one, and paraphrases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modernpubmed.errors import ModernPubMedError
from modernpubmed.folding import fingerprint, folded
from modernpubmed.records import Pair
from modernpubmed.related import KnownTexts, is_long, keys_of, shingles_of
from modernpubmed.suites import SentencePairs, read_sentence_pairs, read_suite, suite_checksum

_NEAR, _EXACT = 1, 2
_HOW = {_EXACT: "exact", _NEAR: "near-duplicate"}


@dataclass(frozen=True, slots=True)
class Text:
    """A text to be looked for.

    Attributes:
        folded: As ``folded`` gives it.
        mark: Its fingerprint.
        keys: Its near-duplicate keys; empty for one of too few words.
    """

    folded: str
    mark: int
    keys: tuple[int, ...]

    @classmethod
    def of(cls, text: str, *, near: bool = True) -> Text:
        """Folds and hashes a text; without its keys if no near-duplicates are looked for."""
        text = folded(text)
        keys = keys_of(shingles_of(text)).tolist() if near and is_long(text) else ()
        return cls(text, fingerprint(text), tuple(keys))


def texts_of(pair: Pair, *, near: bool = True) -> tuple[Text, Text]:
    """Both sides of a pair, as ``Text.of`` gives them."""
    return Text.of(pair.anchor, near=near), Text.of(pair.positive, near=near)


class Suites:
    """Test suites, what of them was seen, and how many pairs matched them.

    Args:
        paths: BEIR folders, Parquet files of pairs (as ``read_suite`` takes them) or ``.tsv``
            files of sentence pairs.

    Raises:
        ModernPubMedError: One cannot be read, or two have one name.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.versions: dict[str, str] = {}
        self._sides: list[tuple[str, str, int, int]] = []  # suite, side, first text, one past last
        texts: list[str] = []
        for path in paths:
            suite = read_sentence_pairs(path) if path.suffix == ".tsv" else read_suite(path)
            if suite.name in self.versions:
                raise ModernPubMedError(
                    f"two suites are called {suite.name}", file=path, remedy="rename one"
                )
            self.versions[suite.name] = suite_checksum(suite)
            sides: dict[str, tuple[str, ...]] = (
                {"sentences": suite.first + suite.second}
                if isinstance(suite, SentencePairs)
                else {"queries": suite.queries, "documents": suite.corpus}
            )
            for side, found in sides.items():
                self._sides.append((suite.name, side, len(texts), len(texts) + len(found)))
                texts += found
        self._known = KnownTexts(texts)
        names = {name: number for number, name in enumerate(self.versions)}
        self._owner = np.zeros(len(texts), dtype=np.int32)
        for name, _, first, last in self._sides:
            self._owner[first:last] = names[name]
        self._seen: NDArray[np.int8] = np.zeros(len(texts), dtype=np.int8)
        self._checked = 0
        self._pairs = {name: {_EXACT: 0, _NEAR: 0} for name in names}

    def reason(self, texts: Sequence[Text]) -> str | None:
        """Why a pair is to be dropped (``in suite NAME (exact)``), None if it is not; counts it.

        Args:
            texts: Those of the pair.
        """
        self._checked += 1
        hits: dict[int, int] = {}
        for text in texts:
            found = dict.fromkeys(self._known.near(text.folded, text.keys), _NEAR)
            found |= dict.fromkeys(self._known.same(text.mark), _EXACT)
            for place, how in found.items():
                self._seen[place] = max(self._seen[place], how)
                owner = int(self._owner[place])
                hits[owner] = max(hits.get(owner, 0), how)
        if not hits:
            return None
        names = list(self.versions)
        for owner, how in hits.items():
            self._pairs[names[owner]][how] += 1
        first = min(hits)
        return f"in suite {names[first]} ({_HOW[hits[first]]})"

    def rates(self) -> dict[str, Any]:
        """Of each suite, how many pairs matched it, how many of its texts, and the shares.

        A text or a pair that matches both ways counts as exact.
        """
        found: dict[str, Any] = {
            name: {"version": version, "pairs": _rates(self._pairs[name], self._checked)}
            for name, version in self.versions.items()
        }
        for name, side, first, last in self._sides:
            seen = self._seen[first:last]
            counts = {how: int(np.count_nonzero(seen == how)) for how in _HOW}
            found[name][side] = _rates(counts, last - first)
        return found


def _rates(counts: dict[int, int], total: int) -> dict[str, Any]:
    rates: dict[str, Any] = {"total": total}
    for how, name in _HOW.items():
        share = counts[how] / total if total else 0.0
        rates[name] = {"count": counts[how], "share": round(share, 6)}
    return rates

"""Pairs of titles that say nearly the same of two articles, kind ``similar-title``; streaming.

Two titles are similar if at least ``SIMILAR`` of the different words of both are common to both
(Jaccard similarity; order, case and punctuation do not count). Not similar are:

- parts of a series: titles that differ in numbers, Roman numerals and words like "part" alone;
- contrasts: titles of which both have a word that the other lacks, function words and words of
  every title ("treatment", "randomised") apart. Most often these are two drugs, two diseases or
  two sides of the body: of 859 pairs of real titles with 0.6 of their words in common, most;
- articles of which NLM says that they are about something else: where both have MeSH headings,
  ``MESH_OVERLAP`` of them must be common to both.

The same article twice, and articles with the same or nearly the same abstract, are gone before
(``deduplicate``, ``near``). The later title is the anchor, the earlier the positive; the earlier
article's PMID is added to ``links``, so that its abstract is not a negative in a batch. An article
is in one pair at most, and both of a pair are on the same side of the split.

Titles wait for another in a temporary file; memory holds eight hash-table entries a title. A title
is compared with the last one waiting under each of its eight MinHash keys (over words, not
shingles), so a few that are similar are not found.

Given up: telling a paraphrase from a contrast by sense; these pairs are similar, not equal.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from array import array
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from modernpubmed.folding import folded
from modernpubmed.pairs.select import Tally
from modernpubmed.pairs.table import HashTable
from modernpubmed.records import Pair, pair_from_row, pair_to_row
from modernpubmed.related import BANDS, MESH_OVERLAP, keys_of, mesh_overlap, shingles_of
from modernpubmed.schemas import PAIR_SCHEMA

#: From which share of common words on two titles are similar.
SIMILAR = 0.6
#: Fewest words of a title: of five, three in common are two words and "of".
MIN_WORDS = 6
#: Why a title is in no pair, and what the earlier article of a pair is counted as.
ALONE, SECOND = "no similar title", "second articles"

_SERIES = re.compile(
    r"\d+|[ivx]+|[a-h]|part|parts|study|report|paper|communication|section|chapter|volume|year"
    r"|years|first|second|third|fourth|fifth|one|two|three|four|five"
)
# fmt: off
_LIGHT = frozenset((
    "a", "about", "after", "all", "among", "an", "analysi", "and", "are", "as", "at", "by", "can",
    "case", "clinical", "comparison", "double", "blind", "during", "effect", "efficacy",
    "evaluation", "experience", "for", "from", "group", "in", "into", "investigation", "is", "it",
    "management", "multicenter", "multicentre", "new", "of", "on", "or", "our", "outcome",
    "patient", "placebo", "controlled", "prospective", "randomised", "randomized", "recent",
    "report", "result", "retrospective", "review", "role", "safety", "some", "study", "studie",
    "systematic", "the", "their", "therapy", "to", "tolerability", "treatment", "trial", "update",
    "use", "using", "versu", "vs", "with",
))
# fmt: on


class SimilarTitles:
    """The titles that wait for a similar one."""

    def __init__(self) -> None:
        self._tables = [HashTable(values="uint32") for _ in range(BANDS)]
        # A row of ``PAIR_SCHEMA`` a line; where each begins, or -1 once it is in a pair.
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - ``close`` closes it
        self._starts = array("q")
        self._waiting = 0

    def pairs(
        self, batch: pa.RecordBatch, dev: Sequence[bool], tally: Tally
    ) -> tuple[pa.RecordBatch, list[bool]]:
        """The pairs that some more articles complete, and whether each is on the dev side.

        Args:
            batch: Title–abstract pairs, ``PAIR_SCHEMA``.
            dev: Whether each is on the dev side.
            tally: ``noted[SECOND]`` counts the pairs; ``dropped[ALONE]`` titles of too few words,
                and, after ``close``, those that found no other.
        """
        found: list[Pair] = []
        sides: list[bool] = []
        for row, on_dev in zip(batch.to_pylist(), dev, strict=True):
            words = folded(row["anchor"])
            if len(words.split()) < MIN_WORDS:
                tally.dropped[ALONE] += 1
                continue
            keys = keys_of(shingles_of(words, width=1)).tolist()
            place = self._partner(words, row, on_dev, keys)
            if place is None:
                self._wait(row, on_dev, keys)
                continue
            first = self._row(place)
            self._starts[place] = -1
            self._waiting -= 1
            pair = pair_from_row(row)
            links = pair.links if first["pmid"] is None else (*pair.links, first["pmid"])
            found.append(
                replace(
                    pair,
                    positive=first["anchor"],
                    kind="similar-title",
                    links=tuple(dict.fromkeys(links)),
                )
            )
            sides.append(on_dev)
            tally.noted[SECOND] += 1
        rows = [pair_to_row(pair) for pair in found]
        return pa.RecordBatch.from_pylist(rows, schema=PAIR_SCHEMA), sides

    def close(self, tally: Tally) -> None:
        """Counts the titles that still wait; the end."""
        tally.dropped[ALONE] += self._waiting
        self._file.close()

    def _partner(
        self, words: str, row: dict[str, Any], on_dev: bool, keys: Sequence[int]
    ) -> int | None:
        """The most similar title that waits, the earliest of several."""
        best: tuple[float, int] | None = None
        candidates = {table.find(key) for table, key in zip(self._tables, keys, strict=True)}
        for place in sorted(candidates):
            if place < 0 or self._starts[place] < 0:
                continue
            other = self._row(place)
            if other["dev"] != on_dev:
                continue
            score = similarity(words, folded(other["anchor"]))
            if row["mesh"] and other["mesh"]:
                score *= mesh_overlap(row["mesh"], other["mesh"]) >= MESH_OVERLAP
            if score >= SIMILAR and (best is None or score > best[0]):
                best = score, place
        return None if best is None else best[1]

    def _wait(self, row: dict[str, Any], on_dev: bool, keys: Sequence[int]) -> None:
        place = len(self._starts)
        for table, key in zip(self._tables, keys, strict=True):
            table.put(key, place)
        self._starts.append(self._file.seek(0, os.SEEK_END))
        kept = {"anchor": row["anchor"], "pmid": row["pmid"], "mesh": row["mesh"], "dev": on_dev}
        self._file.write(json.dumps(kept).encode() + b"\n")
        self._waiting += 1

    def _row(self, place: int) -> dict[str, Any]:
        self._file.seek(self._starts[place])
        row: dict[str, Any] = json.loads(self._file.readline())
        return row


def similarity(first: str, second: str) -> float:
    """The share of common words of two folded titles; 0 for a series' parts and contrasts.

    >>> similarity("aspirin after stroke a trial", "a randomised trial of aspirin after stroke")
    0.7142857142857143
    >>> similarity("aspirin after stroke part i", "aspirin after stroke part ii")
    0.0
    >>> similarity("aspirin after stroke a trial", "heparin after stroke a trial")
    0.0
    """
    one, two = set(first.split()), set(second.split())
    left, right = one - two, two - one
    if all(map(_SERIES.fullmatch, left | right)):
        return 0.0
    light = [{word.removesuffix("s") for word in side} - _LIGHT for side in (left, right)]
    if light[0] - light[1] and light[1] - light[0]:
        return 0.0
    return len(one & two) / len(one | two)

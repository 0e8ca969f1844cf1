"""Matching mentions in free text to concepts: the same string first, then the nearest meaning.

A mention that is written like a name or a synonym (but for case, hyphens and punctuation) is that
concept, with score 1: no model should be asked. Every other concept is scored by its nearest
surface form: the cosine of mention and form, the greatest over the concept's name and synonyms.
Homonyms are all returned, since the string alone cannot tell them apart.

Given up: context. A mention is matched by itself, so "cold" is the same in every sentence. And no
index: 42,000 forms of 384 numbers are one matrix product of some milliseconds.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from modernpubmed.concepts.ontology import SCOPES, Concept
from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import Manifest, replacing
from modernpubmed.protocols import DocumentEncoder

_ENCODED_AT_ONCE = 2048
_MENTIONS_AT_ONCE = 256
_VECTORS_NAME = "vectors.npy"
#: How near a form stands to its concept, nearest first: decides the order of homonyms.
_NEARNESS = {scope: rank for rank, scope in enumerate(("NAME", *SCOPES))}
_JOINED = re.compile(r"(?<=\w)[-‐‑‒–—/](?=\w)|[,;:()\[\]\"“”]")
_APOSTROPHES = re.compile(r"['’]")


@dataclass(frozen=True, slots=True)
class Match:
    """One concept that a mention may mean.

    Attributes:
        curie: The concept.
        name: Its preferred name.
        form: The name or synonym that matched.
        scope: What that form is to the concept: ``NAME`` or the synonym's scope.
        score: 1 for the same string, else the cosine of mention and form.
        kind: ``exact`` (the same string after ``normalise``) or ``embedding``.
    """

    curie: str
    name: str
    form: str
    scope: str
    score: float
    kind: Literal["exact", "embedding"]


@dataclass(frozen=True, slots=True)
class MentionMatches:
    """The answer for one mention.

    Attributes:
        mention: As given.
        matches: Best first, one a concept; empty when no concept reaches the threshold.
        best_below: Then the nearest concept, so that the refusal can be judged; else None.
    """

    mention: str
    matches: tuple[Match, ...]
    best_below: Match | None = None


class Matcher:
    """Concepts with the vectors of their surface forms; made by ``build_matcher``.

    Args:
        concepts: At least one.
        vectors: [f, d], L2-normalised: the rows of ``distinct_forms(concepts)``, in order.
        encoder: The encoder that made them.
    """

    def __init__(
        self, concepts: Sequence[Concept], vectors: NDArray[np.float32], encoder: DocumentEncoder
    ) -> None:
        self.concepts = tuple(concepts)
        self.vectors = vectors
        self.encoder = encoder
        row_of = {form: row for row, form in enumerate(distinct_forms(self.concepts))}
        # The forms of one concept lie side by side: reduceat takes each concept's maximum.
        self._forms = [form for concept in self.concepts for form in _forms(concept)]
        self._rows = np.array([row_of[text] for text, _ in self._forms])
        counts = [1 + len(concept.synonyms) for concept in self.concepts]
        self._starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        self._written: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for place, count in enumerate(counts):
            start = int(self._starts[place])
            for form in range(start, start + count):
                self._written[normalise(self._forms[form][0])].append((place, form))

    def match(self, mention: str, k: int = 5, threshold: float | None = None) -> MentionMatches:
        """The ``k`` concepts that a mention most likely means.

        Args:
            mention: Free text, best a phrase ("shortness of breath at night").
            k: How many concepts at most.
            threshold: The least score that counts as a match; None takes every score.

        Raises:
            ModernPubMedError: The mention is blank, or ``k`` is less than one.
        """
        return self.match_many([mention], k, threshold)[0]

    def match_many(
        self, mentions: Sequence[str], k: int = 5, threshold: float | None = None
    ) -> list[MentionMatches]:
        """``match`` for many mentions at once; the order is kept.

        Raises:
            ModernPubMedError: A mention is blank (its number is named), or ``k`` is less than one.
        """
        if k < 1:
            raise ModernPubMedError(f"k is {k}", remedy="ask for at least one concept")
        for number, mention in enumerate(mentions, start=1):
            if not mention.strip():
                raise ModernPubMedError(
                    "a blank mention", record=f"mention {number}", remedy="leave it out"
                )
        answers = []
        for start in range(0, len(mentions), _MENTIONS_AT_ONCE):
            block = list(mentions[start : start + _MENTIONS_AT_ONCE])
            similarity = (self.encoder.encode_document(block) @ self.vectors.T)[:, self._rows]
            for mention, scores in zip(block, similarity, strict=True):
                ranked = self._ranked(mention, scores, k)
                kept = tuple(m for m in ranked if threshold is None or m.score >= threshold)
                answers.append(MentionMatches(mention, kept, None if kept else ranked[0]))
        return answers

    def _ranked(self, mention: str, scores: NDArray[np.float32], k: int) -> list[Match]:
        """The best ``k``, given the cosine of every form."""
        same = sorted(
            self._written.get(normalise(mention), []),
            key=lambda found: (_NEARNESS[self._forms[found[1]][1]], found),
        )
        ranked: dict[int, Match] = {}
        for place, form in same:
            ranked.setdefault(place, self._match(place, form, 1.0, "exact"))
        best = np.maximum.reduceat(scores, self._starts)
        for place in np.argsort(-best, kind="stable")[: k + len(ranked)].tolist():
            if place not in ranked:
                start = int(self._starts[place])
                stop = start + 1 + len(self.concepts[place].synonyms)
                form = start + int(np.argmax(scores[start:stop]))
                ranked[place] = self._match(place, form, float(scores[form]), "embedding")
        return list(ranked.values())[:k]

    def _match(
        self, place: int, form: int, score: float, kind: Literal["exact", "embedding"]
    ) -> Match:
        concept, (text, scope) = self.concepts[place], self._forms[form]
        return Match(concept.curie, concept.name, text, scope, score, kind)


def build_matcher(
    concepts: Iterable[Concept],
    encoder: DocumentEncoder,
    *,
    cache: Path | None = None,
    report: Callable[[int, int], None] | None = None,
) -> Matcher:
    """Encodes every distinct name and synonym of ``concepts``, or finds that in the cache.

    Args:
        concepts: What may be matched.
        encoder: Both sides, forms and mentions, go through its ``encode_document``: they are texts
            of one kind, and a query prompt asks for passages about a topic, not for its names.
        cache: A folder for the vectors. They are kept by the SHA-256 of forms and encoder, so one
            folder serves several ontologies and models, and nothing in it is ever out of date.
        report: Told after each block how many forms are encoded, and of how many.

    Raises:
        ModernPubMedError: No concepts, or a cache that is damaged.
    """
    concepts = tuple(concepts)
    if not concepts:
        raise ModernPubMedError("no concepts to match against", remedy="give at least one")
    forms = distinct_forms(concepts)
    inputs = {
        "forms": hashlib.sha256(json.dumps(forms).encode()).hexdigest(),
        "encoder": encoder.fingerprint,
    }
    if cache is None:
        return Matcher(concepts, _encoded(forms, encoder, report), encoder)
    entry = cache / hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:16]
    if not entry.exists():
        cut = encoder.truncated
        vectors = _encoded(forms, encoder, report)
        manifest = Manifest(
            "vectors",
            inputs=inputs,
            settings={"encoder": encoder.name, "dimension": encoder.dimension},
            counts={
                "concepts": len(concepts),
                "forms": len(forms),
                "truncated": encoder.truncated - cut,
            },
        )
        with replacing(entry) as temporary:
            temporary.mkdir()
            np.save(temporary / _VECTORS_NAME, vectors)
            manifest.write(temporary)
        return Matcher(concepts, vectors, encoder)
    return Matcher(concepts, _cached(entry, inputs, (len(forms), encoder.dimension)), encoder)


def distinct_forms(concepts: Iterable[Concept]) -> list[str]:
    """Every different name and synonym, in order of first appearance."""
    return list(dict.fromkeys(text for concept in concepts for text, _ in _forms(concept)))


def normalise(text: str) -> str:
    """The form under which two spellings count as the same string.

    Unicode NFKC, case folded, white space collapsed; hyphens and slashes inside a word, brackets,
    quotes, commas, colons and semicolons become spaces; apostrophes vanish. Signs that carry
    meaning stay: "CD4+" is not "CD4-".

    >>> normalise("Non-Hodgkin’s  lymphoma (NHL)") == normalise("non hodgkins lymphoma, NHL")
    True
    >>> normalise("CD4+") == normalise("CD4-")
    False
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(_JOINED.sub(" ", _APOSTROPHES.sub("", folded)).split())


def _forms(concept: Concept) -> list[tuple[str, str]]:
    return [(concept.name, "NAME"), *((form.text, form.scope) for form in concept.synonyms)]


def _encoded(
    forms: list[str], encoder: DocumentEncoder, report: Callable[[int, int], None] | None
) -> NDArray[np.float32]:
    vectors = np.empty((len(forms), encoder.dimension), dtype=np.float32)
    for start in range(0, len(forms), _ENCODED_AT_ONCE):
        block = forms[start : start + _ENCODED_AT_ONCE]
        vectors[start : start + len(block)] = encoder.encode_document(block)
        if report is not None:
            report(start + len(block), len(forms))
    return vectors


def _cached(entry: Path, inputs: dict[str, str], shape: tuple[int, int]) -> NDArray[np.float32]:
    remedy = "remove this folder, it is made again"
    if Manifest.read(entry).inputs != inputs:
        raise ModernPubMedError("the vectors of other concepts", file=entry, remedy=remedy)
    try:
        vectors = np.load(entry / _VECTORS_NAME, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ModernPubMedError(f"unreadable ({error})", file=entry, remedy=remedy) from error
    if vectors.shape != shape or vectors.dtype != np.float32:
        raise ModernPubMedError(
            f"vectors of shape {vectors.shape} where {shape} is due", file=entry, remedy=remedy
        )
    return np.asarray(vectors)

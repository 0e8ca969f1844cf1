"""Which candidates may be right after all, and must not be called negatives.

What is known of a pair (PMID, concept, kind, links) is asked of every document at once: each such
relation is a sorted list of (group, document) numbers, and a candidate is looked up in it. So a
document that several pairs share is judged by all of them, and no rule costs a Python call a
candidate. The measures themselves are those of ``modernpubmed.related``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from modernpubmed.pairs.candidates import Report, Texts, distinct, parts
from modernpubmed.related import BANDS, CHECK_TAGS, near_duplicate_keys

#: Why a candidate is dropped for what it is, in the order in which the rules are tried.
RELATIONS = (
    "the pair's own positive",
    "another kind of pair",
    "same PMID",
    "same concept",
    "same text",
    "near-duplicate text",
    "linked article",
    "MeSH overlap",
)

_Ints = NDArray[np.int64]
_Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Groups:
    """Which documents belong to which groups (PMIDs, concepts, …).

    Attributes:
        keys: group × width + document for each membership, sorted. Documents are numbered by
            ``Texts.document_fold``: spelt differently they are still the same text.
        width: More than any such number.
    """

    keys: _Ints
    width: int

    @classmethod
    def of(cls, groups: _Ints, folds: _Ints, width: int) -> Self:
        """One membership a place; a group of -1 is none."""
        given = groups >= 0
        return cls(np.unique(groups[given] * width + folds[given]), width)

    def hold(self, groups: _Ints, folds: _Ints) -> _Mask:
        """Whether each group holds the document at the same place; -1 holds none."""
        keys = groups * self.width + folds
        places = np.searchsorted(self.keys, keys)
        held = np.zeros(len(keys), dtype=bool)
        inside = places < len(self.keys)
        held[inside] = self.keys[places[inside]] == keys[inside]
        return held


@dataclass(frozen=True, slots=True)
class _Headings:
    """The MeSH headings of n rows without check tags, as numbers, row after row.

    Attributes:
        ids: All rows' headings.
        starts: ``[n + 1]``, where in ``ids`` each row's begin.
        kinds: How many different headings there are.
    """

    ids: _Ints
    starts: _Ints
    kinds: int

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> Self:
        column = column.combine_chunks()
        names, ids = distinct(pa.chunked_array([pc.list_flatten(column)], pa.string()))
        rows = pc.list_parent_indices(column).to_numpy().astype(np.int64)
        told = np.array([name not in CHECK_TAGS for name in names.to_pylist()], dtype=bool)[ids]
        kinds = max(len(names), 1)
        rows, ids = np.divmod(np.unique(rows[told] * kinds + ids[told]), kinds)
        starts = np.searchsorted(rows, np.arange(len(column) + 1))
        return cls(ids, starts, kinds)

    def overlap(self, rows: _Ints, others: _Ints) -> NDArray[np.float64]:
        """``modernpubmed.related.mesh_overlap`` of each row with the other at its place.

        Args:
            rows: Rising, and near each other: it takes a byte for every heading there is and
                every row from the first to the last.
            others: Any rows.
        """
        lengths = np.diff(self.starts)
        first, last = int(rows[0]), int(rows[-1]) + 1
        has = np.zeros((last - first, self.kinds), dtype=bool)
        own = np.repeat(np.arange(last - first), lengths[first:last])
        has[own, self.ids[self.starts[first] : self.starts[last]]] = True
        counts = lengths[others]
        pair = np.repeat(np.arange(len(rows)), counts)
        within = np.arange(len(pair)) - np.repeat(np.cumsum(counts) - counts, counts)
        heading = self.ids[np.repeat(self.starts[others], counts) + within]
        shared = np.bincount(pair[has[rows[pair] - first, heading]], minlength=len(rows))
        either: _Ints = lengths[rows] + counts - shared
        overlap: NDArray[np.float64] = shared / np.maximum(either, 1)
        return overlap


@dataclass(frozen=True, slots=True)
class Judge:
    """Everything by which a candidate is known to be related to a pair.

    Attributes:
        texts: The n pairs' texts, u anchors and m documents.
        kinds: ``[n]``, a number for each pair's kind.
        pmids: ``[n]``, likewise; -1 for none.
        concepts: ``[n]``, likewise; -1 for none.
        of_kind: The documents of each kind of pair.
        of_pmid: The documents of each PMID.
        of_concept: The documents of each concept.
        of_anchor: The positives of each anchor, by its fold.
        linked: The documents of the articles that each row links to.
        linking: The documents of the articles that link to each PMID.
        near_keys: ``[m, BANDS]``.
        headings: The pairs' MeSH.
        first_row: ``[m]``, the first pair of each document.
        mesh_overlap: From which overlap on headings are too alike.
    """

    texts: Texts
    kinds: _Ints
    pmids: _Ints
    concepts: _Ints
    of_kind: _Groups
    of_pmid: _Groups
    of_concept: _Groups
    of_anchor: _Groups
    linked: _Groups
    linking: _Groups
    near_keys: NDArray[np.uint64]
    headings: _Headings
    first_row: _Ints
    mesh_overlap: float

    @classmethod
    def of(cls, table: pa.Table, texts: Texts, mesh_overlap: float, report: Report) -> Self:
        """Computes the keys of all pairs, once.

        Args:
            table: The pairs, in ``PAIR_SCHEMA``.
            texts: Their texts.
            mesh_overlap: From which overlap on two articles' headings are too alike.
            report: Told of the documents whose near-duplicate keys are computed.
        """
        folds, width = texts.document_fold[texts.document_of], texts.width
        kinds, pmids, concepts = (distinct(table[name])[1] for name in ("kind", "pmid", "concept"))
        linked, linking = _links(table, pmids, folds, width)
        near_keys = np.empty((len(texts.documents), BANDS), dtype=np.uint64)
        for start, part in parts(texts.documents):
            for row, text in enumerate(part, start):
                near_keys[row] = near_duplicate_keys(text)
            report(start + len(part), len(near_keys))
        return cls(
            texts=texts,
            kinds=kinds,
            pmids=pmids,
            concepts=concepts,
            of_kind=_Groups.of(kinds, folds, width),
            of_pmid=_Groups.of(pmids, folds, width),
            of_concept=_Groups.of(concepts, folds, width),
            of_anchor=_Groups.of(texts.anchor_fold[texts.anchor_of], folds, width),
            linked=linked,
            linking=linking,
            near_keys=near_keys,
            headings=_Headings.of(table["mesh"]),
            first_row=np.unique(texts.document_of, return_index=True)[1],
            mesh_overlap=mesh_overlap,
        )

    def rules(self) -> Iterator[tuple[str, Callable[[_Ints, _Ints], _Mask]]]:
        """Each of ``RELATIONS`` with its rule: which of some rows' candidates it drops.

        A rule takes two arrays of one length, not empty: rows (rising, near each other), and for
        each a document.
        """
        texts, fold, own = self.texts, self.texts.document_fold, self.texts.document_of

        def same_text(rows: _Ints, documents: _Ints) -> _Mask:
            # Also where one pair's anchor is the other's positive: a name of a name.
            anchor, positive = texts.anchor_fold[texts.anchor_of[rows]], fold[own[rows]]
            there = fold[documents]
            same: _Mask = (there == anchor) | self.of_anchor.hold(anchor, there)
            same |= self.of_anchor.hold(positive, there)
            return same

        def near_duplicate(rows: _Ints, documents: _Ints) -> _Mask:
            shared: _Mask = np.any(self.near_keys[own[rows]] == self.near_keys[documents], axis=1)
            return shared

        yield from zip(
            RELATIONS,
            (
                lambda rows, documents: fold[own[rows]] == fold[documents],
                lambda rows, documents: ~self.of_kind.hold(self.kinds[rows], fold[documents]),
                lambda rows, documents: self.of_pmid.hold(self.pmids[rows], fold[documents]),
                lambda rows, documents: self.of_concept.hold(self.concepts[rows], fold[documents]),
                same_text,
                near_duplicate,
                lambda rows, documents: (
                    self.linked.hold(rows, fold[documents])
                    | self.linking.hold(self.pmids[rows], fold[documents])
                ),
                lambda rows, documents: (
                    self.headings.overlap(rows, self.first_row[documents]) >= self.mesh_overlap
                ),
            ),
            strict=True,
        )


def _links(table: pa.Table, pmids: _Ints, folds: _Ints, width: int) -> tuple[_Groups, _Groups]:
    """The documents that each row links to, and those that link to each PMID."""
    links = table["links"].combine_chunks()
    rows = pc.list_parent_indices(links).to_numpy().astype(np.int64)
    known = distinct(table["pmid"])[0]
    others = pc.index_in(pc.list_flatten(links), known).fill_null(-1).to_numpy().astype(np.int64)
    here = others >= 0
    rows, others = rows[here], others[here]
    # Every row of the article at the link's other end.
    order = np.argsort(pmids, kind="stable")
    starts = np.searchsorted(pmids[order], others)
    counts = np.searchsorted(pmids[order], others, side="right") - starts
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    there = order[np.repeat(starts, counts) + within]
    linked = _Groups.of(np.repeat(rows, counts), folds[there], width)
    return linked, _Groups.of(others, folds[rows], width)

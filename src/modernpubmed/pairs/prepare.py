"""The part of making pairs that needs no memory of other pairs: done piece by piece, on all cores.

A piece is some records of an input. ``prepare`` filters and selects them, makes their pairs, and
computes what the rest of the room decides by: fingerprints, near-duplicate keys, signatures. The
rest (``build``) goes through the pieces in their order, so the result does not depend on how many
processes prepared them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from multiprocessing import current_process, get_context

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from modernpubmed.errors import ModernPubMedError
from modernpubmed.pairs.dates import Asked, outside
from modernpubmed.pairs.decontaminate import Text, texts_of
from modernpubmed.pairs.deduplicate import identity_of
from modernpubmed.pairs.kinds import make
from modernpubmed.pairs.select import Tally, select_one
from modernpubmed.pairs.split import split_of
from modernpubmed.records import Article, Pair, article_from_row, pair_to_row
from modernpubmed.related import keys_of, shingles_of, signatures
from modernpubmed.schemas import PAIR_SCHEMA

#: Why a record is dropped that ``--mesh`` did not ask for.
OTHER_MESH = "none of the MeSH headings"

_GUARD = "a process that was to prepare pairs could not start, or was killed"
_GUARDED = 'call this under: if __name__ == "__main__": (and see that there is memory left)'


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be made of the records.

    Attributes:
        kind: One of ``ARTICLE_KINDS``.
        min_abstract: Shortest abstract, in characters.
        dev_share: Share of the dev side.
        mesh: Case-folded names of MeSH headings of which a record must have one; none is any.
        asked: The span of time in which it must have been published.
        near: Whether near-duplicates are looked for.
        suites: Whether the pairs are compared with suites.
    """

    kind: str
    min_abstract: int
    dev_share: float
    mesh: frozenset[str]
    asked: Asked
    near: bool
    suites: bool


@dataclass(frozen=True, slots=True)
class Piece:
    """Some records of one input: rows of ``ARTICLE_SCHEMA``, or pairs."""

    source: str
    records: pa.RecordBatch | list[Pair]


@dataclass(frozen=True, slots=True)
class Marks:
    """What a pair is known by: identity, fingerprints of both sides, concept (see ``Seen``)."""

    identity: int | None
    anchor: int
    positive: int
    concept: str | None


@dataclass(frozen=True, slots=True)
class Prepared:
    """The m pairs that a piece gave, and what is to be decided by.

    Attributes:
        tally: What was read, dropped and repaired.
        pairs: The pairs, ``PAIR_SCHEMA``.
        dev: Of each, whether it is on the dev side.
        articles: Of each, the marks of the title–abstract pair it was made of.
        made: Its own marks, where they are others.
        keys: ``[m, BANDS]``, near-duplicate keys of the abstracts; nothing if not asked for.
        signatures: ``[m, SIGNATURE]``, their signatures; likewise.
        texts: Of each, all texts to look for in suites; likewise.
    """

    tally: Tally
    pairs: pa.RecordBatch
    dev: list[bool]
    articles: list[Marks]
    made: list[Marks | None]
    keys: NDArray[np.uint64]
    signatures: NDArray[np.uint8]
    texts: list[tuple[Text, ...]]


def prepare(task: Task, piece: Piece) -> Prepared:
    """Makes the pairs of a piece; each record gives one, or is counted as dropped."""
    tally = Tally()
    pairs: list[Pair] = []
    dev: list[bool] = []
    articles: list[Marks] = []
    made: list[Marks | None] = []
    abstracts: list[Text] = []
    texts: list[tuple[Text, ...]] = []
    for record in _records(piece):
        reason = _unasked(record, task)
        if reason is not None:
            tally.seen["articles" if isinstance(record, Article) else "pairs"] += 1
            tally.dropped[reason] += 1
            continue
        pair = select_one(record, tally, min_abstract=task.min_abstract, source=piece.source)
        if pair is None:
            continue
        other = make(record, pair, task.kind, min_abstract=task.min_abstract)
        if isinstance(other, str):
            tally.dropped[other] += 1
            continue
        sides: tuple[Text, ...] = texts_of(pair, near=task.suites)
        articles.append(_marks(pair, sides))
        abstracts.append(sides[1])
        if other is pair:
            made.append(None)
        else:
            others = texts_of(other, near=task.suites)
            made.append(_marks(other, others))
            sides += others
        pairs.append(other)
        dev.append(split_of(other, dev_share=task.dev_share, title=pair.anchor) == "dev")
        texts.append(sides)
    shingles = [shingles_of(text.folded) for text in abstracts] if task.near else []
    keys = np.array(
        [
            text.keys or keys_of(numbers)
            for text, numbers in zip(abstracts if task.near else [], shingles, strict=True)
        ],
        dtype=np.uint64,
    )
    return Prepared(
        tally,
        to_batch(pairs),
        dev,
        articles,
        made,
        keys,
        signatures(shingles),
        texts if task.suites else [],
    )


def prepare_all(pieces: Iterable[Piece], task: Task, workers: int) -> Iterator[Prepared]:
    """``prepare`` of each piece, in order, by so many processes; by this one if there is little.

    Raises:
        ModernPubMedError: A process was killed, or could not start; or as reading raises it.
    """
    pieces = iter(pieces)
    first = list(islice(pieces, 2))
    if workers < 2 or len(first) < 2:
        yield from map(partial(prepare, task), chain(first, pieces))
        return
    if getattr(current_process(), "_inheriting", False):
        # A worker that is importing the script which started it, and was about to start workers.
        raise ModernPubMedError(_GUARD, remedy=_GUARDED)
    # Spawned, not forked: a fork of a process that runs threads may hang.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        # No more than a few pieces ahead, or the whole corpus would wait in memory.
        ahead: deque[Future[Prepared]] = deque()
        try:
            for piece in chain(first, pieces):
                ahead.append(pool.submit(prepare, task, piece))
                if len(ahead) > 2 * workers:
                    yield _result(ahead)
            while ahead:
                yield _result(ahead)
        finally:
            for future in ahead:
                future.cancel()


def to_batch(pairs: list[Pair]) -> pa.RecordBatch:
    """Pairs as rows of ``PAIR_SCHEMA``."""
    return pa.RecordBatch.from_pylist([pair_to_row(pair) for pair in pairs], schema=PAIR_SCHEMA)


def _result(ahead: deque[Future[Prepared]]) -> Prepared:
    try:
        return ahead.popleft().result()
    except BrokenProcessPool as error:
        raise ModernPubMedError(_GUARD, remedy=_GUARDED) from error


def _records(piece: Piece) -> Iterable[Article | Pair]:
    if isinstance(piece.records, list):
        return piece.records
    return map(article_from_row, piece.records.to_pylist())


def _marks(pair: Pair, sides: Sequence[Text]) -> Marks:
    return Marks(identity_of(pair), sides[0].mark, sides[1].mark, pair.concept)


def _unasked(record: Article | Pair, task: Task) -> str | None:
    """Why a record is not among those asked for; None if it is."""
    if task.mesh:
        names = (
            (heading.name for heading in record.mesh)
            if isinstance(record, Article)
            else record.mesh
        )
        if task.mesh.isdisjoint(name.casefold() for name in names):
            return OTHER_MESH
    text = record.date if isinstance(record, Article) else None
    return outside(text, record.year, task.asked)

"""Making pairs, the room's whole verb: records in; train, dev and a manifest out, streaming.

Every record is read, filtered and made a pair by itself (``prepare``, on all cores); then, in their
order, the pairs pass what needs a memory: exact repetitions, near-duplicates, test suites. That
memory is what the module promises: 300 to 420 bytes a pair, none of them text, and the suites. A
pair that is dropped leaves nothing in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modernpubmed.articles import is_corpus
from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import MANIFEST_NAME, Manifest, refuse_other_files, replacing, sha256
from modernpubmed.pairs.dates import asked_span
from modernpubmed.pairs.decontaminate import Suites, texts_of
from modernpubmed.pairs.deduplicate import Seen, deduplicate
from modernpubmed.pairs.kinds import KINDS, TERMINOLOGY_KINDS
from modernpubmed.pairs.near import NEAR_DUPLICATE, NEAR_PAIRS, NearTexts
from modernpubmed.pairs.prepare import Piece, Prepared, Task, prepare_all, to_batch
from modernpubmed.pairs.select import MIN_ABSTRACT, Tally
from modernpubmed.pairs.similar import SimilarTitles
from modernpubmed.pairs.split import split_of
from modernpubmed.pairs.store import DEV_NAME, REMEDY, TRAIN_NAME, batches, read_pieces, table_path
from modernpubmed.pairs.terminology import (
    TERMINOLOGY_REMEDY,
    Concept,
    definition_pairs,
    gather,
    read_terminology,
    synonym_pairs,
)
from modernpubmed.records import Pair
from modernpubmed.schemas import PAIR_SCHEMA

#: Records that a process prepares at a time.
PIECE = 2_000

#: Called now and then with the number of records read so far.
Progress = Callable[[int], None]

_KIND = "pairs"
_ROW_GROUP = 10_000
#: What to give, by whether the kind is made of terminologies.
_NEEDED = {False: REMEDY, True: TERMINOLOGY_REMEDY}
#: What is missing when no pair is left, of the kinds that need more than title and abstract.
_USABLE = {
    "title-conclusion": "give articles whose abstracts mark their conclusion",
    "question-conclusion": "give more articles: one in 400 has a question title and a conclusion",
    "mesh-abstract": "give articles of NLM's files that are indexed, or pairs with mesh",
    "similar-title": "give more articles: few have a title like another's",
    "synonym-name": "give a terminology whose concepts have synonyms",
    "name-definition": "give a terminology whose concepts have definitions",
}


def build_pairs(
    inputs: Sequence[Path],
    out: Path,
    *,
    kind: str = "title-abstract",
    dev_share: float = 0.02,
    min_abstract: int = MIN_ABSTRACT,
    near: float | None = NEAR_PAIRS,
    mesh: Sequence[str] = (),
    since: str | date | None = None,
    until: str | date | None = None,
    decontaminate: Sequence[Path] = (),
    workers: int = 1,
    progress: Progress | None = None,
) -> Manifest:
    """Makes pairs of one kind, de-duplicates and splits them; writes the folder ``out``.

    Earlier inputs win where two hold the same article, or give one name to two concepts. The
    result does not depend on ``workers``.

    Args:
        inputs: Tables of articles or of title–abstract pairs: Parquet, a folder that holds one, a
            corpus, or JSON lines. For the kinds of ``TERMINOLOGY_KINDS`` terminologies, as
            ``read_terminology`` takes them.
        out: Folder to write ``train.parquet``, ``dev.parquet`` and ``manifest.json`` to. A folder
            that this function wrote earlier is replaced.
        kind: One of ``KINDS``.
        dev_share: Share of the pairs on the dev side, 0 to 1 (see ``split_of``).
        min_abstract: Shortest abstract kept, in characters; of ``sentence-abstract``, the shortest
            rest as well. Terminologies have none.
        near: From which similarity on an abstract is a near-duplicate of an earlier one, above 0 to
            1 (see ``near``); None keeps them all. Terminologies have none.
        mesh: Names of MeSH headings as NLM writes them, in any case: only records with one of them.
        since: Only records published on this day or later: ``2024``, ``2024-03``, ``2024-03-15``.
        until: Only those published on this day or earlier.
        decontaminate: Test suites that no pair may match (see ``Suites``).
        workers: Processes that prepare pairs. With more than one, call this under ``if __name__ ==
            "__main__":``.
        progress: Called now and then with the number of records read so far.

    Returns:
        The manifest: counts ``articles``, ``pairs`` or ``concepts`` (read), ``train``, ``dev`` and
        each repair; ``dropped`` by reason; ``measured["overlap"]``, of each suite what matched it.
        An article or pair gives one pair at most, so read = train + dev + dropped. A concept may
        give several names' pairs; those beyond its first are counted as ``further pairs``, and
        read + further pairs = train + dev + dropped. A ``similar-title`` pair takes two articles,
        and ``second articles`` stands on the other side as well.

    Raises:
        ModernPubMedError: There is no such kind, an input is bad or not for this kind, a setting
            is out of range, ``out`` holds other files, or no pair is left.
    """
    of_terms = kind in TERMINOLOGY_KINDS
    _check(kind, dev_share, near, asks=bool(mesh or since or until))
    if not inputs:
        raise ModernPubMedError("no input given", remedy=_NEEDED[of_terms])
    asked = asked_span(since, until)
    out = out.resolve()
    refuse_other_files(out, _KIND, {TRAIN_NAME, DEV_NAME}, "this is no folder of pairs")
    hashes = {str(path): sha256(_file(path, kind)) for path in inputs}
    suites = Suites(decontaminate) if decontaminate else None
    tally = Tally()
    if of_terms:
        made = _of_terminologies(inputs, kind, dev_share, suites, tally, progress)
    else:
        task = Task(
            kind=kind,
            min_abstract=min_abstract,
            dev_share=dev_share,
            mesh=frozenset(name.casefold() for name in mesh),
            asked=asked,
            near=near is not None,
            suites=suites is not None,
        )
        prepared = prepare_all(_pieces(inputs), task, workers)
        made = _of_articles(prepared, task, near, suites, tally, progress)
    with replacing(out) as folder:
        folder.mkdir()
        with _Side(folder / TRAIN_NAME) as train, _Side(folder / DEV_NAME) as dev:
            for batch, on_dev in made:
                flags = pa.array(on_dev, pa.bool_())
                dev.write(batch.filter(flags))
                train.write(batch.filter(pc.invert(flags)))
        if not train.rows + dev.rows:
            reasons = ", ".join(f"{reason} {n}" for reason, n in tally.dropped.most_common())
            raise ModernPubMedError(
                f"no usable pair is left ({reasons or 'no record read'})",
                file=", ".join(map(str, inputs)),
                remedy=_USABLE.get(kind, "give articles that have English titles and abstracts"),
            )
        settings: dict[str, Any] = {"kind": kind, "dev_share": dev_share}
        if not of_terms:
            settings |= {"min_abstract": min_abstract, "near": near}
        for name, value in (("mesh", list(mesh)), ("since", since), ("until", until)):
            if value:
                settings[name] = value if isinstance(value, list) else str(value)
        if suites is not None:
            settings["decontaminate"] = suites.versions
        manifest = Manifest(
            kind=_KIND,
            inputs=hashes,
            settings=settings,
            counts={
                **tally.seen,
                "train": train.rows,
                "dev": dev.rows,
                **{note: count for note, count in tally.noted.most_common() if count},
            },
            dropped={reason: count for reason, count in tally.dropped.most_common() if count},
            measured={} if suites is None else {"overlap": suites.rates()},
        )
        manifest.write(folder)
    return manifest


def _check(kind: str, dev_share: float, near: float | None, *, asks: bool) -> None:
    if kind not in KINDS:
        raise ModernPubMedError(
            f"there is no kind of pairs {kind!r}", remedy=f"name one of {', '.join(KINDS)}"
        )
    if not 0 <= dev_share <= 1:
        raise ModernPubMedError(
            f"dev_share is {dev_share}", remedy="give a share from 0 to 1, such as 0.02"
        )
    if near is not None and not 0 < near <= 1:
        raise ModernPubMedError(
            f"near is {near}", remedy=f"give a similarity above 0, up to 1, such as {NEAR_PAIRS}"
        )
    if asks and kind in TERMINOLOGY_KINDS:
        raise ModernPubMedError(
            "concepts have no MeSH headings and no date", remedy="ask for these of articles only"
        )


class _Side:
    """One side's file: batches of any size in, row groups of one size out."""

    def __init__(self, path: Path) -> None:
        self.rows = 0
        self._writer = pq.ParquetWriter(path, PAIR_SCHEMA, compression="zstd")
        self._waiting: list[pa.RecordBatch] = []
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._flush()
        self._writer.close()

    def write(self, batch: pa.RecordBatch) -> None:
        self.rows += len(batch)
        self._count += len(batch)
        self._waiting.append(batch)
        if self._count >= _ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._count:
            self._writer.write_table(
                pa.Table.from_batches(self._waiting, PAIR_SCHEMA).combine_chunks()
            )
        self._waiting, self._count = [], 0


def _pieces(inputs: Sequence[Path]) -> Iterator[Piece]:
    for path in inputs:
        number = 0
        for records in read_pieces(path, PIECE):
            for record in records if isinstance(records, list) else ():
                number += 1
                if record.kind != KINDS[0]:
                    raise ModernPubMedError(
                        f"this pair is of the kind {record.kind}",
                        file=path,
                        record=f"pair {number}",
                        remedy=f"give articles or {KINDS[0]} pairs; other kinds are made of those",
                    )
            yield Piece(path.name, records)


def _of_articles(
    pieces: Iterable[Prepared],
    task: Task,
    near: float | None,
    suites: Suites | None,
    tally: Tally,
    progress: Progress | None,
) -> Iterator[tuple[pa.RecordBatch, list[bool]]]:
    """The pairs that are left of each piece, and whether each is on the dev side.

    The first record with a PMID, a title or an abstract wins among those that a pair can be made
    of, and so does the first with a text of the pair made of it.
    """
    articles, made, known = Seen(), Seen(), NearTexts()
    titles = SimilarTitles() if task.kind == "similar-title" else None
    for piece in pieces:
        before = tally.seen.total()
        for ours, theirs in zip(
            (tally.seen, tally.dropped, tally.noted),
            (piece.tally.seen, piece.tally.dropped, piece.tally.noted),
            strict=True,
        ):
            ours.update(theirs)
        kept: list[int] = []
        for row, article in enumerate(piece.articles):
            other = piece.made[row]
            sketch = None
            marks = (article.identity, article.anchor, article.positive)
            reason = articles.reason(*marks, concept=article.concept)
            if reason is None and other is not None:
                reason = made.reason(
                    other.identity, other.anchor, other.positive, concept=other.concept
                )
            # Pairs of one concept may share their texts, and must be allowed to.
            if reason is None and near is not None and article.concept is None:
                sketch = piece.keys[row].tolist(), piece.signatures[row]
                reason = NEAR_DUPLICATE if known.has_near(*sketch, near) else None
            if reason is None and suites is not None:
                reason = suites.reason(piece.texts[row])
            if reason is not None:
                tally.dropped[reason] += 1
                continue
            kept.append(row)
            articles.add(*marks, concept=article.concept)
            if other is not None:
                made.add(other.identity, other.anchor, other.positive, concept=other.concept)
            if sketch is not None:
                known.add(*sketch)
        batch = piece.pairs.take(pa.array(kept, pa.int64()))
        dev = [piece.dev[row] for row in kept]
        yield (batch, dev) if titles is None else titles.pairs(batch, dev, tally)
        if progress is not None and tally.seen.total() // PIECE > before // PIECE:
            progress(tally.seen.total())
    if titles is not None:
        titles.close(tally)


def _of_terminologies(
    inputs: Sequence[Path],
    kind: str,
    dev_share: float,
    suites: Suites | None,
    tally: Tally,
    progress: Progress | None,
) -> Iterator[tuple[pa.RecordBatch, list[bool]]]:
    def counted(concepts: Iterator[Concept]) -> Iterator[Concept]:
        for number, concept in enumerate(concepts, start=1):
            yield concept
            if progress is not None and number % PIECE == 0:
                progress(number)

    def clean(pairs: Iterable[Pair]) -> Iterator[Pair]:
        for pair in pairs:
            reason = None if suites is None else suites.reason(texts_of(pair))
            if reason is None:
                yield pair
            else:
                tally.dropped[reason] += 1

    names = Counter(path.name for path in inputs)
    for path in inputs:
        if names[path.name] > 1:
            raise ModernPubMedError(
                "two terminologies have this name",
                file=path,
                remedy="rename one: numbers in place of identifiers are told apart by file name",
            )
    concepts = gather(counted(chain.from_iterable(map(read_terminology, inputs))), tally)
    make = synonym_pairs if kind == "synonym-name" else definition_pairs
    for pairs in batches(clean(deduplicate(make(concepts, tally), tally)), PIECE):
        yield to_batch(pairs), [split_of(pair, dev_share=dev_share) == "dev" for pair in pairs]


def _file(path: Path, kind: str) -> Path:
    """The file whose bytes stand for an input."""
    if kind not in TERMINOLOGY_KINDS:
        # A corpus' manifest names every file by its checksum.
        return path / MANIFEST_NAME if is_corpus(path) else table_path(path)
    if not path.is_file():
        raise ModernPubMedError(
            "this is a folder, not a terminology" if path.is_dir() else "there is no such file",
            file=path,
            remedy=_NEEDED[True],
        )
    return path

"""Hard negatives: documents that look like the answer to an anchor and are not.

A batch drawn at random holds few documents that an encoder could mistake for the right one. Here
the ones it does mistake are looked up beforehand, for every anchor, by two eyes that err
differently: BM25 (shared words) and the encoder's own vectors (shared sense). Of what both bring,
everything that may be right after all is dropped, each candidate under the first of ``REASONS``
that holds, and the best of the rest are kept.

The last of the rules is positive-aware (TopK-PercPos of NV-Retriever, Moreira et al. 2024,
https://arxiv.org/abs/2407.15831): a negative may score at most 95 % of what the anchor's own
positive does. That rule means nothing where the positive scores zero or less (95 % of -0.2 is
*more* than -0.2): an encoder that cannot see that a pair belongs together cannot vouch that
another text does not. Such a pair gets no negatives, and is counted.

A candidate is a text, not a row: where several pairs share one positive (a concept's name, a MeSH
heading), it is searched for once, and what one of its pairs says of it (PMID, concept, kind, link)
counts. Its MeSH headings are those of its first pair.

Neighbours are exact, so time grows with the square of the pairs: 90 CPU-seconds for 58,879 pairs
at 384 dimensions, seven CPU-hours for a million.

Given up: approximate search and a cross-encoder as judge, which would need more libraries;
``sentence_transformers.util.mine_hard_negatives`` has both, but neither BM25 nor any of the rules
by PMID, link, concept, MeSH or near-duplicate text.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import Manifest, refuse_other_files, replacing, sha256
from modernpubmed.pairs.candidates import (
    Texts,
    Vectors,
    bm25_settings,
    by_sense,
    by_words,
    encode_all,
)
from modernpubmed.pairs.relations import RELATIONS, Judge
from modernpubmed.pairs.store import DEV_NAME, TRAIN_NAME
from modernpubmed.protocols import TextEncoder
from modernpubmed.related import MESH_OVERLAP
from modernpubmed.schemas import MINED_SCHEMA, PAIR_SCHEMA

_ABOVE, _AGAIN = "score above the margin", "same text as a better negative"
#: Why a candidate is dropped, in the order in which the rules are tried.
REASONS = (*RELATIONS, _ABOVE, _AGAIN)

#: Called with what is being done, how much of it is done, and how much there is.
Progress = Callable[[str, int, int], None]

_KIND = "pairs"
_REMEDY = "make it with 'modernpubmed pairs'"
#: Columns that a file of pairs of before they existed may lack.
_LATER = ("concept", "mesh", "links")
# Pairs judged at once, and row group of the output.
_PAIRS = 1024
_COUNTS = (
    "pairs",
    "pairs with all negatives",
    "pairs with some negatives",
    "pairs with no negatives",
    "pairs with a positive score of 0 or less",
    "candidates",
    "negatives",
    "candidates left over",
)

_Ints = NDArray[np.int64]
_Floats = NDArray[np.float32]


def mine(
    pairs: Path,
    encoder: TextEncoder,
    out: Path,
    *,
    negatives: int = 4,
    depth: int = 50,
    margin: float = 0.95,
    mesh_overlap: float = MESH_OVERLAP,
    progress: Progress | None = None,
) -> Manifest:
    """Finds hard negatives for every pair; writes the folder of pairs ``out``.

    Equal scores go to the text that comes first in the file, so the same input gives the same
    output on one machine.

    Memory: about 16 kB a pair of 1,500 characters and 16 MiB of scores, most of it the texts and
    BM25's word counts while its index is built; 1 GB for 58,879 pairs. The vectors, 8 bytes × d a
    pair, lie in files in the temporary folder.

    Args:
        pairs: A folder with ``train.parquet`` (its ``dev.parquet`` is copied as it stands), or a
            Parquet file, in ``PAIR_SCHEMA``; ``concept``, ``mesh`` and ``links`` may be lacking,
            and negatives mined earlier are replaced.
        encoder: Ranks and scores: anchors are queries to it, positives documents.
        out: Folder to write ``train.parquet`` (``MINED_SCHEMA``), ``dev.parquet`` and
            ``manifest.json`` to. A folder of pairs is replaced.
        negatives: Negatives to keep for each pair; fewer where fewer are left.
        depth: How many candidates BM25 and the vectors each bring.
        margin: Highest share of its positive's score that a negative may have, above 0 to 1.
        mesh_overlap: Two articles whose MeSH headings overlap this much (as
            ``modernpubmed.related.mesh_overlap`` counts it) may mean the same; above 0 to 1.
        progress: Called now and then.

    Returns:
        The manifest: counts ``pairs``, ``pairs with all negatives``, ``… some negatives``, ``… no
        negatives`` and ``… a positive score of 0 or less``, ``candidates``, ``negatives``,
        ``candidates left over`` (usable, but not among the best), ``dev``, and ``texts cut`` by
        the encoder; ``dropped`` by one of ``REASONS``. Candidates = negatives + left over +
        dropped.

    Raises:
        ModernPubMedError: The pairs have wrong columns, a null or an empty text; a setting is out
            of range; ``out`` is the input or holds other files; a vector is not finite.
    """
    _check_settings(negatives, depth, margin, mesh_overlap)
    source, dev = _sources(pairs)
    out = out.resolve()
    if out in (source.resolve(), source.resolve().parent):
        raise ModernPubMedError(
            "this is where the pairs are read from", file=out, remedy="name another folder"
        )
    refuse_other_files(out, _KIND, {TRAIN_NAME, DEV_NAME}, "this is no folder of pairs")
    report = progress or _silent
    table = _read(source)
    inputs = {str(path): sha256(path) for path in (source, dev) if path is not None}
    counts: Counter[str] = Counter(dict.fromkeys(_COUNTS, 0))
    dropped: Counter[str] = Counter()
    if dev is not None:
        counts["dev"] = _parquet_rows(dev)
    cut = encoder.truncated
    with replacing(out) as folder:
        folder.mkdir()
        texts = Texts.of(table, partial(report, "folding texts"))
        dimension, beside = encoder.dimension, folder.parent
        vectors = Vectors(
            encode_all(
                texts.anchors,
                encoder.encode_query,
                dimension,
                beside / "anchors",
                partial(report, "encoding anchors"),
            ),
            encode_all(
                texts.documents,
                encoder.encode_document,
                dimension,
                beside / "positives",
                partial(report, "encoding positives"),
            ),
        )
        words = by_words(texts, depth, partial(report, "searching by words"))
        sense = by_sense(vectors, depth, partial(report, "searching by vectors"))
        found = np.concatenate([words, sense], axis=1)
        del words, sense
        judge = Judge.of(table, texts, mesh_overlap, partial(report, "comparing texts"))
        with pq.ParquetWriter(folder / TRAIN_NAME, MINED_SCHEMA, compression="zstd") as writer:
            for start in range(0, len(table), _PAIRS):
                rows = np.arange(start, min(start + _PAIRS, len(table)))
                chosen = _choose(rows, found, judge, vectors, negatives, margin, counts, dropped)
                writer.write_table(_mined(table.slice(start, len(rows)), texts, chosen))
                report("choosing negatives", int(rows[-1]) + 1, len(table))
        if dev is not None:
            shutil.copyfile(dev, folder / DEV_NAME)
        counts["texts cut"] = encoder.truncated - cut
        manifest = Manifest(
            kind=_KIND,
            inputs=inputs,
            settings={
                "encoder": {"name": encoder.name, "fingerprint": encoder.fingerprint},
                "negatives": negatives,
                "depth": depth,
                "margin": margin,
                "mesh_overlap": mesh_overlap,
                "bm25": bm25_settings(),
            },
            counts=dict(counts),
            dropped={reason: dropped[reason] for reason in REASONS if dropped[reason]},
        )
        manifest.write(folder)
    return manifest


# --- what is read -------------------------------------------------------------------------------


def _check_settings(negatives: int, depth: int, margin: float, mesh_overlap: float) -> None:
    for name, number in (("negatives", negatives), ("depth", depth)):
        if number < 1:
            raise ModernPubMedError(f"{name} is {number}", remedy="give 1 or more")
    for name, share in (("margin", margin), ("mesh_overlap", mesh_overlap)):
        if not 0 < share <= 1:
            raise ModernPubMedError(f"{name} is {share}", remedy="give a share above 0, up to 1")


def _silent(_what: str, _done: int, _total: int) -> None:
    pass


def _sources(pairs: Path) -> tuple[Path, Path | None]:
    """The Parquet file to mine, and the dev side that goes along."""
    source = pairs / TRAIN_NAME if pairs.is_dir() else pairs
    if not source.is_file():
        raise ModernPubMedError("no such file of pairs", file=source, remedy=_REMEDY)
    dev = pairs / DEV_NAME
    return source, dev if pairs.is_dir() and dev.is_file() else None


def _parquet_rows(path: Path) -> int:
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> ModernPubMedError:
    return ModernPubMedError(
        f"not a readable Parquet file of pairs ({error})", file=path, remedy=_REMEDY
    )


def _read(path: Path) -> pa.Table:
    """The file in ``PAIR_SCHEMA``, checked; columns it may lack are filled with nothing."""
    try:
        table = pq.ParquetFile(path).read()
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error
    names = table.column_names
    missing = [n for n in PAIR_SCHEMA.names if n not in names and n not in _LATER]
    unknown = [n for n in names if n not in MINED_SCHEMA.names]
    if missing or unknown:
        cause = f"no column {missing[0]!r}" if missing else f"unknown column {unknown[0]!r}"
        raise ModernPubMedError(cause, file=path, record="schema", remedy=_REMEDY)
    if not len(table):
        raise ModernPubMedError("the file holds no pair", file=path, remedy=_REMEDY)
    columns = []
    for field in PAIR_SCHEMA:
        if field.name not in names:
            nothing = pa.scalar([] if pa.types.is_list(field.type) else None, field.type)
            columns.append(pa.repeat(nothing, len(table)))
            continue
        columns.append(_checked(table[field.name], field, path))
    return pa.table(columns, schema=PAIR_SCHEMA)


def _same_family(found: pa.DataType, wanted: pa.DataType) -> bool:
    types = pa.types
    if types.is_null(found):
        return True  # nothing but nulls, which are looked for elsewhere
    if types.is_list(wanted):
        return (types.is_list(found) or types.is_large_list(found)) and _same_family(
            found.value_type, wanted.value_type
        )
    if types.is_string(wanted):
        return bool(types.is_string(found) or types.is_large_string(found))
    return bool(types.is_integer(found))


def _checked(column: pa.ChunkedArray, field: pa.Field, path: Path) -> pa.ChunkedArray:
    """The column in its field's type, without nulls or empty texts where none may be."""
    try:
        if not _same_family(column.type, field.type):
            raise pa.ArrowTypeError(f"it holds {column.type}, not {field.type}")
        column = column.cast(field.type)
    except pa.ArrowException as error:
        raise ModernPubMedError(
            f"wrong column {field.name!r} ({error})", file=path, record="schema", remedy=_REMEDY
        ) from error
    if pa.types.is_list(field.type):
        column = pc.if_else(column.is_null(), pa.scalar([], field.type), column)
        rows = pc.list_parent_indices(column).filter(pc.list_flatten(column).is_null())
        if len(rows):
            raise _bad_row("null", field.name, path, rows[0].as_py())
    elif not field.nullable:
        for cause, wrong in (
            ("null", column.is_null()),
            ("empty text", pc.equal(pc.utf8_trim_whitespace(column), "")),
        ):
            if (row := pc.index(wrong, value=True).as_py()) >= 0:
                raise _bad_row(cause, field.name, path, row)
    return column


def _bad_row(cause: str, column: str, path: Path, row: int) -> ModernPubMedError:
    return ModernPubMedError(
        f"{cause} in column {column!r}", file=path, record=f"row {row}", remedy=_REMEDY
    )


# --- what is kept -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Some pairs' negatives, best first, pair after pair.

    Attributes:
        lengths: ``[n]``, how many each pair has.
        documents: All pairs' negatives, places in ``Texts.documents``.
        scores: Their cosines to the anchors.
        positive_scores: ``[n]``, the positives' own.
    """

    lengths: _Ints
    documents: _Ints
    scores: _Floats
    positive_scores: _Floats


def _choose(
    rows: _Ints,
    found: NDArray[np.int32],
    judge: Judge,
    vectors: Vectors,
    negatives: int,
    margin: float,
    counts: Counter[str],
    dropped: Counter[str],
) -> _Chosen:
    """Drops, scores, sorts and cuts the candidates of some rows in a row; adds to the counters."""
    texts, first = judge.texts, int(rows[0])
    lists = np.sort(found[texts.anchor_of[rows]], axis=1)
    new = lists >= 0
    new[:, 1:] &= lists[:, 1:] != lists[:, :-1]
    pair, documents = rows[np.nonzero(new)[0]], lists[new].astype(np.int64)
    counts["candidates"] += len(pair)

    for reason, rule in judge.rules():
        if not len(pair):
            break
        wrong = rule(pair, documents)
        dropped[reason] += int(wrong.sum())
        pair, documents = pair[~wrong], documents[~wrong]

    own = vectors.cosines(texts.anchor_of[rows], texts.document_of[rows])
    scores = vectors.cosines(texts.anchor_of[pair], documents)
    limits = np.where(own > 0, margin * own.astype(np.float64), -np.inf)[pair - first]
    wrong = scores > limits
    dropped[_ABOVE] += int(wrong.sum())
    pair, documents, scores = pair[~wrong], documents[~wrong], scores[~wrong]

    order = np.lexsort((documents, -scores, pair))
    pair, documents, scores = pair[order], documents[order], scores[order]
    # The first of each text is the best; texts may still differ in case or punctuation only.
    keys = pair * texts.width + texts.document_fold[documents]
    best = np.sort(np.unique(keys, return_index=True)[1])
    dropped[_AGAIN] += len(pair) - len(best)
    pair, documents, scores = pair[best], documents[best], scores[best]

    place = np.arange(len(pair)) - np.searchsorted(pair, pair)
    kept = place < negatives
    lengths = np.bincount(pair[kept] - first, minlength=len(rows))
    counts["pairs"] += len(rows)
    counts["pairs with all negatives"] += int((lengths == negatives).sum())
    counts["pairs with some negatives"] += int(((lengths > 0) & (lengths < negatives)).sum())
    counts["pairs with no negatives"] += int((lengths == 0).sum())
    counts["pairs with a positive score of 0 or less"] += int((own <= 0).sum())
    counts["negatives"] += int(kept.sum())
    counts["candidates left over"] += int((~kept).sum())
    return _Chosen(lengths, documents[kept], scores[kept], own)


def _mined(part: pa.Table, texts: Texts, chosen: _Chosen) -> pa.Table:
    """The rows of ``part`` with their negatives, in ``MINED_SCHEMA``."""
    offsets = pa.array(np.concatenate([[0], np.cumsum(chosen.lengths)]), pa.int32())
    columns: dict[str, Any] = {name: part[name] for name in part.column_names}
    negatives = texts.documents.take(pa.array(chosen.documents)).cast(pa.string())
    columns["negatives"] = pa.ListArray.from_arrays(offsets, negatives)
    columns["negative_scores"] = pa.ListArray.from_arrays(offsets, pa.array(chosen.scores))
    columns["positive_score"] = pa.array(chosen.positive_scores)
    return pa.table(columns, schema=MINED_SCHEMA)

"""Pairs on disk, ready to train on: token ids and what decides which pairs may share a batch.

A file of pairs is read once, in pieces, by worker processes that tokenise it and compute its
near-duplicate keys; the results are flat arrays on disk, which every later run and every process
of a run maps into memory. Whatever the size of the corpus, a run then holds the rows of one pool
of batches, and the accelerator never waits for a tokenizer.

The arrays of a store (N rows; ``·`` is ragged: values and N + 1 offsets):

============= ======== ========================================================================
anchor        uint32 · token ids, special tokens included
positive      uint32 · likewise
negatives     uint32 · the hard negatives of a row, one after the other
negative_ends int64  · where in them each one ends
contrast      uint32 · a contrast query; empty where no rule makes one, or none is asked for
mesh          uint64 · hashes of the MeSH headings, check tags left out
links         int64  · PMIDs that NLM links to the article
mined         int64    how many negatives a row has
lengths       int32    tokens of the row's documents: the positive and its negatives
keys          uint64   [N, K]: rows that share one at the same place must not share a batch
pmids         int64    0 where there is none
============= ======== ========================================================================

Given up: the space (about 1.7 kB a pair with its abstract), and the minutes before the first step.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from hashlib import sha256 as sha256_of
from multiprocessing import current_process, get_context
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tokenizers import Tokenizer

from modernpubmed.errors import ModernPubMedError
from modernpubmed.folding import fingerprint, folded
from modernpubmed.manifest import replacing
from modernpubmed.related import BANDS, CHECK_TAGS, near_duplicate_keys
from modernpubmed.schemas import PAIR_SCHEMA
from modernpubmed.training.contrast import contrast
from modernpubmed.training.recipe import Contrast

#: Columns of ``keys``: near-duplicate bands of the positive, the anchor's text, the article, the
#: concept.
KEYS = BANDS + 3
#: Rows a worker is handed at a time; a file of no more is done without workers.
PIECE = 2_000
#: A text is cut to this many characters a token before it is tokenised: one of 50 MB would take a
#: minute and a gigabyte, and no text of words has tokens that long.
CHARACTERS_A_TOKEN = 50

_REMEDY = "make it with 'modernpubmed pairs'"
_GUARD = "a process that was to tokenise could not start, or was killed"
_GUARDED = 'call this under: if __name__ == "__main__": (and see that there is memory left)'
_VERSION = 2
_RAGGED = {"anchor": "uint32", "positive": "uint32", "negatives": "uint32", "contrast": "uint32",
           "negative_ends": "int64", "mesh": "uint64", "links": "int64"}  # fmt: skip
_FLAT = {"mined": "int64", "lengths": "int32", "keys": "uint64", "pmids": "int64"}


@dataclass(frozen=True, slots=True)
class Form:
    """How texts become tokens.

    Attributes:
        tokenizer: The tokenizer's JSON (``Tokenizer.to_str``).
        anchor_tokens: What anchors are cut to, special tokens counted.
        positive_tokens: What positives and their negatives are cut to.
        anchor_prompt: Put before each anchor.
        positive_prompt: Put before each positive and negative.
        negatives: How many of a row's mined negatives to take, the best first.
        contrast: What to make a contrast to each anchor for (``recipe.Contrast``): none, a query
            that its document must tell apart, or a hard negative among the documents.
    """

    tokenizer: str
    anchor_tokens: int
    positive_tokens: int
    anchor_prompt: str = ""
    positive_prompt: str = ""
    negatives: int = 0
    contrast: Contrast = "none"


@dataclass(frozen=True, slots=True)
class Ragged:
    """Rows of different lengths: row i is ``values[offsets[i]:offsets[i + 1]]``."""

    values: NDArray[Any]
    offsets: NDArray[np.int64]

    def row(self, number: int) -> NDArray[Any]:
        """One row, a view."""
        return self.values[self.offsets[number] : self.offsets[number + 1]]


@dataclass(frozen=True, slots=True)
class Tokens:
    """A store of N pairs, mapped into memory; the module says what each array holds."""

    anchor: Ragged
    positive: Ragged
    negatives: Ragged
    negative_ends: Ragged
    contrast: Ragged
    mesh: Ragged
    links: Ragged
    mined: NDArray[np.int64]
    lengths: NDArray[np.int32]
    keys: NDArray[np.uint64]
    pmids: NDArray[np.int64]
    counts: dict[str, int]

    def __len__(self) -> int:
        return len(self.lengths)

    def negatives_of(self, number: int) -> list[NDArray[Any]]:
        """The token ids of each hard negative of a row."""
        ends = self.negative_ends.row(number)
        return np.split(self.negatives.row(number), ends[:-1]) if len(ends) else []


def tokenise(
    pairs: Path,
    checksum: str,
    form: Form,
    cache: Path,
    *,
    workers: int,
    progress: Callable[[int, int], None] | None = None,
) -> Tokens:
    """The store of a file of pairs, made if ``cache`` does not hold it.

    Args:
        pairs: Parquet with the columns ``anchor`` and ``positive``, and where known ``pmid``,
            ``concept``, ``mesh``, ``links`` and ``negatives``.
        checksum: The file's SHA-256: what names the store, together with ``form``.
        form: How texts become tokens.
        cache: A folder that holds stores, one folder each.
        workers: Processes that tokenise.
        progress: Called now and then with the pairs done, and how many there are.

    Raises:
        ModernPubMedError: It is no Parquet file, lacks a column, holds a null or an empty text, or
            has no negatives where ``form`` asks for them.
    """
    named = json.dumps([_VERSION, checksum, asdict(form)]).encode()
    folder = cache / sha256_of(named).hexdigest()[:32]
    if not folder.exists():
        with replacing(folder) as temporary:
            temporary.mkdir(parents=True)
            _write(pairs, form, temporary, workers, progress)
    return read_tokens(folder)


def read_tokens(folder: Path) -> Tokens:
    """Maps a store into memory."""
    with (folder / "counts.json").open() as file:
        counts: dict[str, int] = json.load(file)
    arrays: dict[str, Any] = {
        name: Ragged(_mapped(folder, name, kind), _mapped(folder, f"{name}.offsets", "int64"))
        for name, kind in _RAGGED.items()
    }
    arrays |= {name: _mapped(folder, name, kind) for name, kind in _FLAT.items()}
    arrays["keys"] = arrays["keys"].reshape(-1, KEYS)
    return Tokens(**arrays, counts=counts)


def _mapped(folder: Path, name: str, kind: str) -> NDArray[Any]:
    path = folder / f"{name}.bin"
    # An empty file cannot be mapped.
    if not path.stat().st_size:
        return np.zeros(0, dtype=kind)
    return np.memmap(path, dtype=kind, mode="r")


def _write(
    pairs: Path,
    form: Form,
    folder: Path,
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    counts = {"pairs": 0, "anchors_cut": 0, "positives_cut": 0, "contrasts": 0, "negatives": 0}
    names = list(_RAGGED)
    files: dict[str, BinaryIO] = {
        name: (folder / f"{name}.bin").open("wb")
        for name in [*names, *(f"{name}.offsets" for name in names), *_FLAT]
    }
    ends = dict.fromkeys(names, 0)
    try:
        for name in names:
            np.zeros(1, dtype=np.int64).tofile(files[f"{name}.offsets"])
        for piece in _pieces(pairs, form, workers):
            _append(piece, files, ends)
            for name, count in piece.counts.items():
                counts[name] += count
            if progress is not None:
                progress(counts["pairs"], _count(pairs))
    finally:
        for file in files.values():
            file.close()
    (folder / "counts.json").write_text(json.dumps(counts))


@dataclass(frozen=True, slots=True)
class _Piece:
    """The arrays of some rows: ragged ones as values and lengths."""

    ragged: dict[str, tuple[NDArray[Any], NDArray[np.int64]]]
    flat: dict[str, NDArray[Any]]
    counts: dict[str, int]


def _append(piece: _Piece, files: dict[str, BinaryIO], ends: dict[str, int]) -> None:
    for name, (values, lengths) in piece.ragged.items():
        offsets = ends[name] + np.cumsum(lengths)
        files[name].write(values.tobytes())
        files[f"{name}.offsets"].write(offsets.astype(np.int64).tobytes())
        ends[name] = int(offsets[-1])
    for name, values in piece.flat.items():
        files[name].write(values.tobytes())


def _pieces(pairs: Path, form: Form, workers: int) -> Iterator[_Piece]:
    rows = _rows(pairs, form)
    if workers < 2 or _count(pairs) <= PIECE:
        _prepare(form)
        yield from (_piece(columns) for columns in rows)
        return
    if getattr(current_process(), "_inheriting", False):
        # A worker that is importing the script which started it, and was about to start workers.
        raise ModernPubMedError(_GUARD, remedy=_GUARDED)
    # Spawned, not forked: a fork of a process that runs threads may hang.
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_prepare, initargs=(form,)
    ) as pool:
        # No more than a few pieces ahead, or the whole corpus would wait in memory.
        ahead: deque[Future[_Piece]] = deque()
        for columns in rows:
            ahead.append(pool.submit(_piece, columns))
            if len(ahead) > 2 * workers:
                yield _result(ahead)
        while ahead:
            yield _result(ahead)


def _result(ahead: deque[Future[_Piece]]) -> _Piece:
    try:
        return ahead.popleft().result()
    except BrokenProcessPool as error:
        raise ModernPubMedError(_GUARD, remedy=_GUARDED) from error


def _count(pairs: Path) -> int:
    return int(pq.read_metadata(pairs).num_rows)


def _rows(pairs: Path, form: Form) -> Iterator[dict[str, list[Any]]]:
    """The columns of ``PIECE`` rows at a time, checked."""
    first = 0
    try:
        with pq.ParquetFile(pairs) as file:
            present = set(file.schema_arrow.names)
            for name in ("anchor", "positive", *(("negatives",) if form.negatives else ())):
                if name not in present:
                    raise ModernPubMedError(
                        f"no column {name!r}",
                        file=pairs,
                        record="schema",
                        remedy=_REMEDY if name != "negatives" else "mine them: modernpubmed mine",
                    )
            wanted = {*PAIR_SCHEMA.names, *(("negatives",) if form.negatives else ())} & present
            for batch in file.iter_batches(batch_size=PIECE, columns=sorted(wanted)):
                columns = {name: batch.column(name).to_pylist() for name in wanted}
                for row, texts in enumerate(
                    zip(columns["anchor"], columns["positive"], strict=True), start=first
                ):
                    if any(text is None or not text.strip() for text in texts):
                        cause = "null" if None in texts else "empty"
                        raise ModernPubMedError(
                            f"{cause} text", file=pairs, record=f"row {row}", remedy=_REMEDY
                        )
                yield columns
                first += len(batch)
    except (OSError, pa.ArrowException) as error:
        raise ModernPubMedError(
            f"not a readable Parquet file of pairs ({error})", file=pairs, remedy=_REMEDY
        ) from error


# What a worker process keeps between pieces: a tokenizer takes longer to load than a piece.
_worker: dict[str, Any] = {}


def _prepare(form: Form) -> None:
    # One process a core: threads inside each would only get in each other's way.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    for name, limit in (("anchor", form.anchor_tokens), ("positive", form.positive_tokens)):
        tokenizer = Tokenizer.from_str(form.tokenizer)
        tokenizer.no_padding()
        tokenizer.enable_truncation(limit)
        _worker[name] = tokenizer
    _worker["form"] = form


def _piece(columns: dict[str, list[Any]]) -> _Piece:
    form: Form = _worker["form"]
    anchors, positives = columns["anchor"], columns["positive"]
    count = len(anchors)
    nothing: list[Any] = [None] * count
    counts = {"pairs": count}
    ragged: dict[str, tuple[NDArray[Any], NDArray[np.int64]]] = {}
    ragged["anchor"], counts["anchors_cut"] = _ids("anchor", anchors)
    ragged["positive"], counts["positives_cut"] = _ids("positive", positives)
    made = [None if form.contrast == "none" else contrast(text) for text in anchors]
    counts["contrasts"] = sum(found is not None for found in made)
    lists = [(row or [])[: form.negatives] for row in columns.get("negatives", nothing)]
    if form.contrast == "documents":
        # First, so that a pair's own near twin is there whatever else was mined for it.
        lists = [
            row if found is None else [found.text, *row]
            for row, found in zip(lists, made, strict=True)
        ]
    flat_ids, _ = _ids("positive", [text for row in lists for text in row])
    mined = np.array([len(row) for row in lists], dtype=np.int64)
    counts["negatives"] = int(mined.sum())
    ragged["negatives"], ragged["negative_ends"] = _nested(flat_ids, mined)
    asked = made if form.contrast == "queries" else nothing
    ids, _ = _ids("anchor", [found.text for found in asked if found is not None])
    lengths = np.zeros(count, dtype=np.int64)
    lengths[[row for row, found in enumerate(asked) if found is not None]] = ids[1]
    ragged["contrast"] = (ids[0], lengths)
    mesh = [
        [fingerprint(name) for name in sorted(set(row or ()) - CHECK_TAGS)]
        for row in columns.get("mesh", nothing)
    ]
    ragged["mesh"] = _of_lists(mesh, np.uint64)
    ragged["links"] = _of_lists([row or [] for row in columns.get("links", nothing)], np.int64)
    pmids = columns.get("pmid", nothing)
    concepts = columns.get("concept", nothing)
    keys = np.zeros((count, KEYS), dtype=np.uint64)
    for row in range(count):
        keys[row, :BANDS] = near_duplicate_keys(positives[row])
        keys[row, BANDS] = fingerprint(folded(anchors[row]))
        keys[row, BANDS + 1] = pmids[row] or 0
        keys[row, BANDS + 2] = fingerprint(concepts[row]) if concepts[row] else 0
    return _Piece(
        ragged,
        {
            "mined": mined,
            "lengths": (ragged["positive"][1] + ragged["negatives"][1]).astype(np.int32),
            "keys": keys,
            "pmids": np.array([pmid or 0 for pmid in pmids], dtype=np.int64),
        },
        counts,
    )


def _ids(column: str, texts: list[str]) -> tuple[tuple[NDArray[Any], NDArray[np.int64]], int]:
    """Token ids and lengths of texts, and how many of them were cut."""
    form: Form = _worker["form"]
    tokenizer: Tokenizer = _worker[column]
    prompt, limit = (
        (form.anchor_prompt, form.anchor_tokens)
        if column == "anchor"
        else (form.positive_prompt, form.positive_tokens)
    )
    longest = CHARACTERS_A_TOKEN * limit
    # Stripped as sentence-transformers strips them.
    encodings = tokenizer.encode_batch_fast([(prompt + text.strip())[:longest] for text in texts])
    lengths = np.array([len(encoding.ids) for encoding in encodings], dtype=np.int64)
    values = np.fromiter((i for encoding in encodings for i in encoding.ids), dtype=np.uint32)
    cut = sum(
        bool(encoding.overflowing) or len(text) > longest
        for encoding, text in zip(encodings, texts, strict=True)
    )
    return (values, lengths), cut


def _nested(
    flat: tuple[NDArray[Any], NDArray[np.int64]], counts: NDArray[np.int64]
) -> tuple[tuple[NDArray[Any], NDArray[np.int64]], tuple[NDArray[Any], NDArray[np.int64]]]:
    """Texts grouped by row: all ids of a row together, and where in it each text ends."""
    values, lengths = flat
    groups = np.split(lengths, np.cumsum(counts)[:-1])
    ends = [np.cumsum(group) for group in groups]
    totals = np.array([group.sum() for group in groups], dtype=np.int64)
    return (values, totals), _of_lists(ends, np.int64)


def _of_lists(rows: list[Any], kind: type[np.generic]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    values = np.array([value for row in rows for value in row], dtype=kind)
    return values, lengths

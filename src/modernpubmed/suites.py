"""Test suites: BEIR folders and sentence-pair files, read strictly.

A suite is what an encoder is measured on, and what training data is decontaminated against, so
this file knows nothing of models. Reading is strict because a suite with a hole in it gives a
wrong figure rather than an error: a qrel that points nowhere makes a query unanswerable, a
duplicate id hides a document. Given up: suites of several splits (only the test split is read)
and corpora larger than memory.

The BEIR layout is that of Thakur et al. 2021 (https://arxiv.org/abs/2104.08663): a folder with
``corpus.jsonl`` (``_id``, ``title``, ``text``), ``queries.jsonl`` (``_id``, ``text``), and
``qrels.tsv`` or ``qrels/test.tsv`` (query id, corpus id, grade; one header line).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from modernpubmed.errors import ModernPubMedError
from modernpubmed.hub import fetch_data_set
from modernpubmed.lines import json_lines, text_lines
from modernpubmed.manifest import Manifest, refuse_other_files, replacing, sha256

#: The data set behind the published results of PubMedBERT Embeddings, on the Hugging Face hub.
WIKI_MEDICAL_TERMS = "gamino/wiki_medical_terms"

#: The reason under which ``Suite.dropped`` counts queries that nothing is relevant to.
UNJUDGED = "query without a relevant document"

_KIND = "suite"
_PAIRS_KIND = "sentence pairs"
_QRELS_HEADER = "query-id\tcorpus-id\tscore"
_PAIR_COLUMNS = (("s1", "sentence1"), ("s2", "sentence2"), ("score", "mean_score", "label"))


@dataclass(frozen=True, slots=True)
class Suite:
    """Queries, a corpus, and which documents are relevant to which query.

    Attributes:
        name: Short name, for tables and file names.
        query_ids: Ids of the queries, in file order; each has a relevant document.
        queries: Their texts.
        corpus_ids: Ids of the documents, in file order.
        corpus: Their texts: title and text joined by a space, as BEIR does.
        qrels: Grade of each judged document, by query id and document id; above 0 is relevant.
        dropped: How many queries or rows were left out, by reason.
        sources: SHA-256 of the files it was read from, by name.

    >>> suite = Suite("tiny", ("q",), ("fever",), ("d",), ("Raised temperature.",), {"q": {"d": 1}})
    >>> suite.relevant("q")
    frozenset({'d'})
    """

    name: str
    query_ids: tuple[str, ...]
    queries: tuple[str, ...]
    corpus_ids: tuple[str, ...]
    corpus: tuple[str, ...]
    qrels: Mapping[str, Mapping[str, int]]
    dropped: Mapping[str, int] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)

    def relevant(self, query_id: str) -> frozenset[str]:
        """Ids of the documents of a grade above 0."""
        return frozenset(doc for doc, grade in self.qrels[query_id].items() if grade > 0)


@dataclass(frozen=True, slots=True)
class SentencePairs:
    """Pairs of sentences with how alike people found them (STS) or whether they match (0, 1).

    Attributes:
        name: Short name.
        first: The one side.
        second: The other side.
        scores: The judgement of each pair; only its order and its spacing matter.
        sources: SHA-256 of the file, by name.
    """

    name: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    scores: tuple[float, ...]
    sources: Mapping[str, str] = field(default_factory=dict)


def suite_checksum(suite: Suite | SentencePairs) -> str:
    """Returns the version of a suite: a SHA-256 over what it holds, in hexadecimal.

    Queries and documents count with their ids and in their order (which decides between ties),
    then the grades of each query, in the order of their document ids; of sentence pairs, both
    sides and the score. The name, ``dropped`` and ``sources`` do not count, so that a copy under
    another name, packed or written anew, keeps its version. Figures of two versions do not
    belong in one table.

    >>> suite = Suite("tiny", ("q",), ("fever",), ("d",), ("Raised temperature.",), {"q": {"d": 1}})
    >>> suite_checksum(suite)[:12]
    '7ce761316870'
    """
    digest = hashlib.sha256()

    def add(*record: str | float) -> None:
        # JSON in ASCII is unambiguous, whatever tabs, line breaks or stray surrogates a text holds.
        digest.update(json.dumps(record).encode("ascii") + b"\n")

    if isinstance(suite, SentencePairs):
        for first, second, score in zip(suite.first, suite.second, suite.scores, strict=True):
            add("pair", first, second, float(score))
        return digest.hexdigest()
    for identifier, text in zip(suite.query_ids, suite.queries, strict=True):
        add("query", identifier, text)
    for identifier, text in zip(suite.corpus_ids, suite.corpus, strict=True):
        add("document", identifier, text)
    for query_id in suite.query_ids:
        for document, grade in sorted(suite.qrels[query_id].items()):
            add("grade", query_id, document, int(grade))
    return digest.hexdigest()


def read_suite(path: str | Path) -> Suite:
    """Reads a BEIR folder, or a Parquet file of pairs: each positive found by its anchor.

    Args:
        path: The folder, whose JSONL files may end in ``.gz`` or ``.zst``; its name becomes the
            suite's. Or the file (``PAIR_SCHEMA``); ``pairs/dev.parquet`` becomes ``pairs_dev``.

    Returns:
        The suite. Queries that no document is relevant to are left out and counted in
        ``dropped``, as sentence-transformers' evaluator leaves them out.

    Raises:
        ModernPubMedError: A file is missing or cannot be unpacked; a line is not JSON, lacks
            ``_id`` or ``text``, repeats an id, or holds no text; a qrel names an unknown query
            or document, is repeated, or has a grade that is not an integer; nothing is relevant.
            Of a file of pairs: it is not one, or holds an empty text.
    """
    folder = Path(path)
    if folder.suffix == ".parquet":
        return _pairs_suite(folder)
    if not folder.is_dir():
        raise ModernPubMedError(
            "no such folder",
            file=folder,
            remedy="give a folder with corpus.jsonl, queries.jsonl and qrels.tsv, or a .parquet",
        )
    corpus_file = _find(folder, "corpus.jsonl", "corpus.jsonl.gz", "corpus.jsonl.zst")
    queries_file = _find(folder, "queries.jsonl", "queries.jsonl.gz", "queries.jsonl.zst")
    qrels_file = _find(folder, "qrels.tsv", "qrels/test.tsv")
    corpus = _read_texts(corpus_file)
    queries = _read_texts(queries_file)
    qrels = _read_qrels(qrels_file, queries, corpus)
    files = (corpus_file, queries_file, qrels_file)
    return judged_suite(
        folder.resolve().name,
        queries,
        corpus,
        qrels,
        file=qrels_file,
        sources={file.relative_to(folder).as_posix(): sha256(file) for file in files},
    )


def judged_suite(
    name: str,
    queries: Mapping[str, str],
    corpus: Mapping[str, str],
    qrels: Mapping[str, Mapping[str, int]],
    *,
    file: str | Path,
    sources: Mapping[str, str],
    dropped: Mapping[str, int] | None = None,
) -> Suite:
    """A suite of those queries that a document is relevant to; the others are counted.

    Args:
        name: The suite's.
        queries: Texts by id.
        corpus: Texts by id.
        qrels: Grades by document id, of every query.
        file: Where the grades come from, for the refusal.
        sources: SHA-256 of the files, by name.
        dropped: What else was left out, by reason.

    Raises:
        ModernPubMedError: No document is relevant to any query.
    """
    kept = {qid: text for qid, text in queries.items() if any(g > 0 for g in qrels[qid].values())}
    if not kept:
        raise ModernPubMedError(
            "no relevant pair: no qrel has a grade above 0",
            file=file,
            remedy="give each query at least one relevant document",
        )
    counts = {UNJUDGED: len(queries) - len(kept), **(dropped or {})}
    return Suite(
        name=name,
        query_ids=tuple(kept),
        queries=tuple(kept.values()),
        corpus_ids=tuple(corpus),
        corpus=tuple(corpus.values()),
        qrels={query_id: qrels[query_id] for query_id in kept},
        dropped={reason: count for reason, count in counts.items() if count},
        sources=sources,
    )


def _pairs_suite(file: Path) -> Suite:
    try:
        rows = pq.read_table(file, columns=["anchor", "positive"]).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise ModernPubMedError(
            f"cannot be read as pairs ({error})",
            file=file,
            remedy="make it with modernpubmed pairs",
        ) from error
    for number, row in enumerate(rows, start=1):
        if len(row) < 2 or not all((text or "").strip() for text in row.values()):
            raise ModernPubMedError(
                "no anchor or no positive",
                file=file,
                record=f"row {number}",
                remedy="make it with modernpubmed pairs",
            )
    if not rows:
        raise ModernPubMedError("holds no pair", file=file, remedy="give a larger --dev-share")
    ids = tuple(str(number) for number in range(1, len(rows) + 1))
    return Suite(
        name=f"{file.resolve().parent.name}_{file.stem}",
        query_ids=ids,
        queries=tuple(row["anchor"] for row in rows),
        corpus_ids=ids,
        corpus=tuple(row["positive"] for row in rows),
        qrels={name: {name: 1} for name in ids},
        sources={file.name: sha256(file)},
    )


def write_suite(
    suite: Suite, folder: str | Path, *, settings: Mapping[str, Any] | None = None
) -> None:
    """Writes a suite as a BEIR folder with a manifest; ``read_suite`` gives it back.

    Args:
        suite: The suite; its texts go to ``text``, the titles stay empty.
        folder: Where to; one that this function wrote earlier is replaced.
        settings: How it was made, for the manifest, which names its version beside them.

    Raises:
        ModernPubMedError: The folder holds other things than a suite, or an id holds a tab or a
            line break, which ``qrels.tsv`` cannot carry.
    """
    target = Path(folder)
    own = {"corpus.jsonl", "queries.jsonl", "qrels.tsv"}
    refuse_other_files(target, _KIND, own, "exists and is not a suite of ours")
    for identifier in (*suite.query_ids, *suite.corpus_ids):
        if identifier != identifier.strip() or identifier.split("\t") != identifier.splitlines():
            raise ModernPubMedError(
                "an id with a tab, a line break or outer spaces cannot be written to qrels.tsv",
                file=target,
                record=repr(identifier),
                remedy="rename the id",
            )
    grades = [
        f"{query_id}\t{document}\t{grade}\n"
        for query_id in suite.query_ids
        for document, grade in suite.qrels[query_id].items()
    ]
    with replacing(target) as temporary:
        temporary.mkdir()
        documents = (
            {"_id": identifier, "title": "", "text": text}
            for identifier, text in zip(suite.corpus_ids, suite.corpus, strict=True)
        )
        queries = (
            {"_id": identifier, "text": text}
            for identifier, text in zip(suite.query_ids, suite.queries, strict=True)
        )
        _write_lines(temporary / "corpus.jsonl", documents)
        _write_lines(temporary / "queries.jsonl", queries)
        (temporary / "qrels.tsv").write_text(
            _QRELS_HEADER + "\n" + "".join(grades), encoding="utf-8"
        )
        Manifest(
            kind=_KIND,
            inputs=suite.sources,
            settings={**(settings or {}), "version": suite_checksum(suite)},
            counts={
                "queries": len(suite.queries),
                "documents": len(suite.corpus),
                "judgements": len(grades),
            },
            dropped=suite.dropped,
        ).write(temporary)


def write_sentence_pairs(
    pairs: SentencePairs, folder: str | Path, *, settings: Mapping[str, Any] | None = None
) -> None:
    """Writes ``NAME.tsv`` with a manifest into a folder; ``read_sentence_pairs`` reads the file.

    Args:
        pairs: The pairs; their name becomes the file's.
        folder: Where to; one that this function wrote earlier is replaced.
        settings: As in ``write_suite``.

    Raises:
        ModernPubMedError: The folder holds other things, or a sentence holds a tab or line break.
    """
    target = Path(folder)
    name = f"{pairs.name}.tsv"
    refuse_other_files(target, _PAIRS_KIND, {name}, "exists and is no folder of sentence pairs")
    lines = ["s1\ts2\tscore\n"]
    for number, row in enumerate(zip(pairs.first, pairs.second, pairs.scores, strict=True), 1):
        if any(len(side.splitlines()) != 1 or "\t" in side for side in row[:2]):
            raise ModernPubMedError(
                "a sentence with a tab or a line break cannot be written to a table",
                file=target,
                record=f"pair {number}",
                remedy="put a space in its place",
            )
        lines.append(f"{row[0]}\t{row[1]}\t{row[2]!r}\n")
    with replacing(target) as temporary:
        temporary.mkdir()
        (temporary / name).write_text("".join(lines), encoding="utf-8")
        Manifest(
            kind=_PAIRS_KIND,
            inputs=pairs.sources,
            settings={**(settings or {}), "version": suite_checksum(pairs)},
            counts={"pairs": len(pairs.scores)},
        ).write(temporary)


def read_sentence_pairs(path: str | Path) -> SentencePairs:
    """Reads a tab-separated file of sentence pairs with a header line.

    The columns ``s1`` (or ``sentence1``), ``s2`` (or ``sentence2``) and ``score`` (or
    ``mean_score`` or ``label``) are read, others are not. Quotation marks are text.

    Raises:
        ModernPubMedError: The file is missing or empty, lacks a column, or a line has another
            number of fields than the header, an empty sentence, or a score that is no number.
    """
    file = Path(path)
    rows = _rows(file)
    header = next(rows, (0, [""]))[1]
    columns = []
    for names in _PAIR_COLUMNS:
        found = [header.index(name) for name in names if name in header]
        if not found:
            raise ModernPubMedError(
                f"no column {' or '.join(names)}",
                file=file,
                record="line 1",
                remedy="give a tab-separated file with the header s1, s2, score",
            )
        columns.append(found[0])
    first, second, scores = [], [], []
    for number, fields in rows:
        place = f"line {number}"
        if len(fields) != len(header):
            raise ModernPubMedError(
                f"{len(fields)} fields where the header has {len(header)}",
                file=file,
                record=place,
                remedy="separate the fields by one tab each",
            )
        left, right, score = (fields[column].strip() for column in columns)
        if not left or not right:
            raise ModernPubMedError(
                "an empty sentence", file=file, record=place, remedy="give both sentences"
            )
        try:
            value = float(score)
        except ValueError:
            value = float("nan")
        if value != value or abs(value) == float("inf"):
            raise ModernPubMedError(
                f"the score {score!r} is no number",
                file=file,
                record=place,
                remedy="give a finite number",
            )
        first.append(left)
        second.append(right)
        scores.append(value)
    if not scores:
        raise ModernPubMedError("no pairs", file=file, remedy="give lines below the header")
    return SentencePairs(
        file.stem, tuple(first), tuple(second), tuple(scores), {file.name: sha256(file)}
    )


def wiki_medical_terms(
    source: str | Path = WIKI_MEDICAL_TERMS, *, revision: str | None = None
) -> Suite:
    """Wikipedia's medical terms: each page's title is to find the page's text.

    This is the evaluation that NeuML published for PubMedBERT Embeddings. Each row is one query
    (``page_title``) with one relevant document (``page_text``). Rows with an empty side are left
    out and counted.

    Args:
        source: The data set on the hub, or a local folder that holds its Parquet files.
        revision: A branch, tag or commit on the hub; None is its main branch.

    Raises:
        ModernPubMedError: The hub cannot be reached and its cache has no copy; there is no
            Parquet file, or one without these two columns.
    """
    folder = Path(source) if Path(source).is_dir() else fetch_data_set(str(source), revision)
    files = sorted(folder.rglob("*.parquet"))
    if not files:
        raise ModernPubMedError(
            "no Parquet file", file=source, remedy="give a folder with the data set's Parquet files"
        )
    queries: dict[str, str] = {}
    corpus: dict[str, str] = {}
    empty = row = 0
    for file in files:
        try:
            with pq.ParquetFile(file) as parquet:
                names = set(parquet.schema_arrow.names)
                wanted = [name for name in ("page_title", "page_text") if name in names]
                table = parquet.read(columns=wanted)
        except (pa.ArrowException, OSError) as error:
            raise ModernPubMedError(
                f"cannot be read as Parquet ({error})", file=file, remedy="fetch it again"
            ) from error
        if len(wanted) < 2:
            raise ModernPubMedError(
                "no columns page_title and page_text",
                file=file,
                remedy=f"give the files of {WIKI_MEDICAL_TERMS}",
            )
        columns = (table.column(name).to_pylist() for name in ("page_title", "page_text"))
        for title, text in zip(*columns, strict=True):
            if title and title.strip() and text and text.strip():
                queries[str(row)] = title.strip()
                corpus[str(row)] = text.strip()
            else:
                empty += 1
            row += 1
    if not queries:
        raise ModernPubMedError("no rows", file=source, remedy="fetch the data set again")
    return Suite(
        name="wiki_medical_terms",
        query_ids=tuple(queries),
        queries=tuple(queries.values()),
        corpus_ids=tuple(corpus),
        corpus=tuple(corpus.values()),
        qrels={key: {key: 1} for key in queries},
        dropped={"row without a title or a text": empty} if empty else {},
        sources={file.relative_to(folder).as_posix(): sha256(file) for file in files},
    )


def _find(folder: Path, *names: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise ModernPubMedError(
        f"no {' or '.join(names)}",
        file=folder,
        remedy="complete the BEIR folder: corpus.jsonl, queries.jsonl, qrels.tsv",
    )


def _rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of each line of a tab-separated file that is not blank."""
    for number, line in text_lines(file):
        if line.strip():
            yield number, line.rstrip("\r\n").split("\t")


def _read_texts(file: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    for number, record in json_lines(file, '{"_id": "…", "text": "…"}'):
        place = f"line {number}"
        identifier, text = identified_text(record, file=file, place=place)
        cause, remedy = None, ""
        if identifier in texts:
            cause, remedy = f"the id {identifier!r} is there already", "give each its own _id"
        elif not text:
            cause, remedy = f"empty text ({identifier!r})", "give the text, or take the record out"
        if cause is not None:
            raise ModernPubMedError(cause, file=file, record=place, remedy=remedy)
        texts[identifier] = text
    return texts


def identified_text(record: Mapping[str, Any], *, file: Path, place: str) -> tuple[str, str]:
    """The id of a BEIR query or document, and its title and text joined by a space.

    Raises:
        ModernPubMedError: ``_id`` or ``text`` is missing or no string.
    """

    def refuse(cause: str, remedy: str) -> ModernPubMedError:
        return ModernPubMedError(cause, file=file, record=place, remedy=remedy)

    for key in ("_id", "text"):
        if record.get(key) is None:
            raise refuse(f"no {key}", f"give every record an {'_id' if key == '_id' else 'text'}")
    identifier, title, text = record["_id"], record.get("title") or "", record["text"]
    if not isinstance(identifier, str | int) or isinstance(identifier, bool) or identifier == "":
        raise refuse(f"the _id {identifier!r} is no string", "give every record a string as _id")
    if not isinstance(title, str) or not isinstance(text, str):
        raise refuse("title or text is no string", "give texts as strings")
    return str(identifier), f"{title} {text}".strip()


def _read_qrels(
    file: Path, queries: Mapping[str, str], corpus: Mapping[str, str]
) -> dict[str, dict[str, int]]:
    qrels: dict[str, dict[str, int]] = {query_id: {} for query_id in queries}
    header = True
    for number, fields in _rows(file):

        def refuse(cause: str, remedy: str, number: int = number) -> ModernPubMedError:
            return ModernPubMedError(cause, file=file, record=f"line {number}", remedy=remedy)

        if len(fields) != 3:
            raise refuse(
                f"{len(fields)} fields instead of 3",
                "write query id, corpus id and grade, separated by tabs",
            )
        query_id, document, grade = fields
        if header:
            header = False
            if _integer(grade) is not None:
                raise refuse("no header line", f"begin with {_QRELS_HEADER.split()}")
            continue
        value = _integer(grade)
        if value is None:
            raise refuse(f"the grade {grade!r} is no integer", "grade with whole numbers")
        if query_id not in queries:
            raise refuse(f"dangling qrel: no query {query_id!r}", "add the query or drop the line")
        if document not in corpus:
            raise refuse(
                f"dangling qrel: no document {document!r}", "add the document or drop the line"
            )
        if document in qrels[query_id]:
            raise refuse(f"{query_id!r} and {document!r} are judged twice", "keep one line")
        qrels[query_id][document] = value
    return qrels


def _integer(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def _write_lines(file: Path, records: Iterator[dict[str, str]]) -> None:
    with file.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)

"""Test suites of the Hugging Face hub, read from their files as MTEB's loaders read them.

Three shapes: retrieval data sets in BEIR's three tables, a table of questions with their answers,
a table of judged sentence pairs. Which file holds which table is read off the data set's card
(``configs`` in the front matter of ``README.md``, see
https://huggingface.co/docs/hub/datasets-manual-configuration), else off the usual names. The files
are read by pyarrow and by our own readers; the library ``datasets`` is not needed.

What a user cannot put right in other people's files is counted, not refused, where it changes no
ranking: a document without a text (TREC-COVID has one), a record or judgement that is there twice
and says the same. What contradicts itself or points nowhere is refused, as everywhere.

Given up: data sets that need code to be read.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from modernpubmed.errors import ModernPubMedError
from modernpubmed.hub import fetch_data_set
from modernpubmed.lines import json_lines, table_rows
from modernpubmed.manifest import sha256
from modernpubmed.suites import (
    SentencePairs,
    Suite,
    identified_text,
    judged_suite,
)

#: The files that a data set's tables may be in.
PATTERNS = (
    "README.md",
    *(f"*.{ending}" for ending in ("parquet", "jsonl", "jsonl.gz", "tsv", "csv")),
)
#: Why something of a data set is not in the suite.
NO_TEXT = "document without a text"
NO_TEXT_JUDGED = "judgement of a document without a text"
REPEATED = "record that is there twice"
JUDGED_TWICE = "judgement that is there twice"
NO_ANSWER = "row without a question or an answer"

# One table may be stored in several forms; the first of these that is there is read.
_ENDINGS = (".parquet", ".jsonl", ".jsonl.gz", ".jsonl.zst", ".tsv", ".csv")
_SHAPE = '{"_id": "…", "text": "…"}'
_AGAIN = "fetch the data set again, or name another revision"

#: Configuration → split → its files.
Tables = Mapping[str, Mapping[str, Sequence[Path]]]


def hub_suite(
    name: str,
    source: str | Path,
    *,
    revision: str | None = None,
    split: str = "test",
    queries: str = "queries",
    patterns: Sequence[str] = PATTERNS,
) -> Suite:
    """A retrieval data set: the tables ``corpus``, ``queries`` and ``default`` or ``qrels``.

    The documents and queries have ``_id`` (or ``id``) and ``text``, documents a ``title`` where
    there is one; the judgements ``query-id``, ``corpus-id`` and ``score``. A table that is not
    split by ``split`` is taken whole where it has one split.

    Args:
        name: The suite's.
        source: The data set on the hub, or a local folder with its files.
        revision: A branch, tag or commit on the hub; None is its main branch.
        split: Which judgements to take; ``all`` takes those of all splits together, where none is
            called so.
        queries: The table of queries, where a data set has several (``queries-en``).
        patterns: Which files to fetch.

    Raises:
        ModernPubMedError: The hub cannot be reached; a table or split is missing, or a file cannot
            be read; a record has no id or text, or an id stands for two texts; a judgement points
            nowhere, has no whole number for a grade, or is there with two grades; nothing is
            relevant.
    """
    folder = _folder(source, revision, patterns)
    tables = _tables(folder)
    left_out: Counter[str] = Counter()
    corpus_files = _files(folder, tables, ("corpus",), split)
    query_files = _files(folder, tables, (queries,), split)
    qrel_files = _files(folder, tables, ("default", "qrels"), split)
    corpus = _texts(corpus_files, left_out)
    asked = _texts(query_files, left_out)
    empty = {identifier for identifier, text in corpus.items() if not text}
    qrels: dict[str, dict[str, int]] = {query_id: {} for query_id in asked}
    for file, place, row in _rows(qrel_files):
        query_id, document, grade = _judgement(row, file, place)
        if query_id not in asked or document not in corpus:
            missing = f"query {query_id!r}" if query_id not in asked else f"document {document!r}"
            raise _refusal(f"dangling qrel: no {missing}", file, place)
        if document in empty:
            left_out[NO_TEXT_JUDGED] += 1
        elif (known := qrels[query_id].get(document)) is None:
            qrels[query_id][document] = grade
        elif known == grade:
            left_out[JUDGED_TWICE] += 1
        else:
            cause = f"{query_id!r} and {document!r} are judged {known} and {grade}"
            raise _refusal(cause, file, place)
    for identifier, text in asked.items():
        if not text:
            raise ModernPubMedError(
                f"a query without a text ({identifier!r})", file=query_files[0], remedy=_AGAIN
            )
    left_out[NO_TEXT] = len(empty)
    return judged_suite(
        name,
        asked,
        {identifier: text for identifier, text in corpus.items() if text},
        qrels,
        file=qrel_files[0],
        sources=_sources(folder, (*corpus_files, *query_files, *qrel_files)),
        dropped=left_out,
    )


def hub_questions(
    name: str,
    source: str | Path,
    *,
    revision: str | None = None,
    config: str,
    split: str = "test",
    patterns: Sequence[str] = PATTERNS,
) -> Suite:
    """A table with ``question`` and ``answer``: each question is to find its answer.

    Equal questions are one query, equal answers one document; their numbers are those that MTEB's
    ``PublicHealthQA`` gives them.

    Args:
        name: The suite's.
        source: The data set on the hub, or a local folder with its files.
        revision: A branch, tag or commit on the hub; None is its main branch.
        config: The table, as the language ``english``.
        split: The split.
        patterns: Which files to fetch.

    Raises:
        ModernPubMedError: The hub cannot be reached; the table is missing, cannot be read, lacks a
            column or has no usable row.
    """
    folder = _folder(source, revision, patterns)
    files = _files(folder, _tables(folder), (config,), split)
    rows = []
    for file, place, row in _rows(files):
        sides = []
        for key in ("question", "answer"):
            if key not in row:
                raise _refusal(f"no column {key}", file, place)
            if not isinstance(row[key], str | None):
                raise _refusal(f"the {key} is no text", file, place)
            sides.append((row[key] or "").strip())
        rows.append((sides[0], sides[1]))
    # A question whose answer is missing still takes a number, as it does there.
    questions = {text: f"Q{n}" for n, text in enumerate(dict.fromkeys(q for q, _ in rows if q))}
    answers = {text: f"D{n}" for n, text in enumerate(dict.fromkeys(a for _, a in rows if a))}
    usable = [(question, answer) for question, answer in rows if question and answer]
    qrels: dict[str, dict[str, int]] = {questions[question]: {} for question, _ in usable}
    for question, answer in usable:
        qrels[questions[question]][answers[answer]] = 1
    return judged_suite(
        name,
        {questions[question]: question for question, _ in usable},
        {answers[answer]: answer for _, answer in usable},
        qrels,
        file=files[0],
        sources=_sources(folder, files),
        dropped={NO_ANSWER: len(rows) - len(usable)},
    )


def hub_sentence_pairs(
    name: str,
    source: str | Path,
    *,
    revision: str | None = None,
    split: str = "test",
    patterns: Sequence[str] = PATTERNS,
) -> SentencePairs:
    """A table with ``sentence1``, ``sentence2`` and ``score``.

    Args:
        name: The pairs'.
        source: The data set on the hub, or a local folder with its files.
        revision: A branch, tag or commit on the hub; None is its main branch.
        split: The split.
        patterns: Which files to fetch.

    Raises:
        ModernPubMedError: The hub cannot be reached; the table is missing or cannot be read; a row
            lacks a sentence or has a score that is no finite number; there are no rows.
    """
    folder = _folder(source, revision, patterns)
    files = _files(folder, _tables(folder), ("default",), split)
    first, second, scores = [], [], []
    for file, place, row in _rows(files):
        left, right, score = (row.get(key) for key in ("sentence1", "sentence2", "score"))
        if not isinstance(left, str) or not isinstance(right, str):
            raise _refusal("no sentence1 or no sentence2", file, place)
        if not left.strip() or not right.strip():
            raise _refusal("no sentence1 or no sentence2", file, place)
        if (
            not isinstance(score, int | float)
            or isinstance(score, bool)
            or not math.isfinite(score)
        ):
            raise _refusal(f"the score {score!r} is no number", file, place)
        first.append(left.strip())
        second.append(right.strip())
        scores.append(float(score))
    if not scores:
        raise ModernPubMedError("no pairs", file=files[0], remedy=_AGAIN)
    return SentencePairs(name, tuple(first), tuple(second), tuple(scores), _sources(folder, files))


def _folder(source: str | Path, revision: str | None, patterns: Sequence[str]) -> Path:
    folder = Path(source)
    return folder if folder.is_dir() else fetch_data_set(str(source), revision, patterns)


def _tables(folder: Path) -> Tables:
    """What the data set's card says of its files."""
    from huggingface_hub import metadata_load

    card = folder / "README.md"
    try:
        about = metadata_load(card) if card.is_file() else None
    except Exception as error:  # whatever the reader of YAML says, the card is broken
        raise ModernPubMedError(
            f"the card's front matter cannot be read ({error})", file=card, remedy=_AGAIN
        ) from error
    configs = (about or {}).get("configs") or []
    tables: dict[str, dict[str, list[Path]]] = {}
    for config in configs:
        if not isinstance(config, dict) or "config_name" not in config:
            continue
        given = config.get("data_files") or []
        entries = given if isinstance(given, list) else [given]
        splits = tables.setdefault(str(config["config_name"]), {})
        for entry in entries:
            if not isinstance(entry, dict):
                entry = {"split": "train", "path": entry}
            paths = entry.get("path") or []
            for path in paths if isinstance(paths, list) else [paths]:
                found = sorted(file for file in folder.glob(str(path)) if file.is_file())
                splits.setdefault(str(entry.get("split", "train")), []).extend(found)
    return tables


def _files(folder: Path, tables: Tables, configs: Sequence[str], split: str) -> list[Path]:
    """The files of the first of these tables that there is."""
    for config in configs:
        splits = {name: list(files) for name, files in tables.get(config, {}).items() if files}
        if split in splits:
            return splits[split]
        # As MTEB's loader does: corpus and queries often have one split, of another name.
        if len(splits) == 1 or (split == "all" and splits):
            return [file for files in splits.values() for file in files]
    # Without a card: the names that BEIR, MTEB and the library ``datasets`` itself give.
    for config in configs:
        places = [f"{config}", f"{config}/{config}-*", f"{config}/{split}", f"{config}/{split}-*"]
        if config == "default":
            places += [split, f"data/{split}", f"data/{split}-*"]
        elif config not in ("corpus", "queries", "qrels"):
            places += [f"data/{config}", f"data/{config}/{split}", f"data/{config}/{split}-*"]
        for place in places:
            for ending in _ENDINGS:
                if found := sorted(folder.glob(place + ending)):
                    return found
    raise ModernPubMedError(
        f"no files of {' or '.join(configs)}, split {split}",
        file=folder,
        remedy="is this the data set, and this its layout? Read it with its own library otherwise",
    )


def _rows(files: Sequence[Path]) -> Iterator[tuple[Path, str, dict[str, Any]]]:
    """Every row, with its file and its place there."""
    for file in files:
        name = file.name
        if name.endswith(".parquet"):
            number = 0
            try:
                with pq.ParquetFile(file) as table:
                    for batch in table.iter_batches():
                        for row in batch.to_pylist():
                            number += 1
                            yield file, f"row {number}", row
            except (pa.ArrowException, OSError) as error:
                raise ModernPubMedError(
                    f"cannot be read as Parquet ({error})", file=file, remedy=_AGAIN
                ) from error
        elif name.endswith((".tsv", ".csv")):
            delimiter: Any = "\t" if name.endswith(".tsv") else ","
            for number, row in table_rows(file, (), delimiter=delimiter):
                yield file, f"line {number}", dict(row)
        else:
            for number, row in json_lines(file, _SHAPE):
                yield file, f"line {number}", row


def _texts(files: Sequence[Path], left_out: Counter[str]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for file, place, row in _rows(files):
        record = {**row, "_id": row.get("_id", row.get("id"))}
        identifier, text = identified_text(record, file=file, place=place)
        if identifier not in texts:
            texts[identifier] = text
        elif texts[identifier] == text:
            left_out[REPEATED] += 1
        else:
            raise _refusal(f"the id {identifier!r} is there already with another text", file, place)
    if not texts:
        raise ModernPubMedError("no records", file=files[0], remedy=_AGAIN)
    return texts


def _judgement(row: Mapping[str, Any], file: Path, place: str) -> tuple[str, str, int]:
    values = [row.get(key) for key in ("query-id", "corpus-id", "score")]
    if None in values:
        raise _refusal("no query-id, corpus-id or score", file, place)
    query_id, document, grade = values
    try:
        number = float(str(grade))
    except ValueError:
        number = math.nan
    if not number.is_integer():
        raise _refusal(f"the grade {grade!r} is no integer", file, place)
    return str(query_id), str(document), int(number)


def _sources(folder: Path, files: Sequence[Path]) -> dict[str, str]:
    return {file.relative_to(folder).as_posix(): sha256(file) for file in dict.fromkeys(files)}


def _refusal(cause: str, file: Path, place: str) -> ModernPubMedError:
    return ModernPubMedError(cause, file=file, record=place, remedy=_AGAIN)

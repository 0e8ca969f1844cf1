"""TREC run files: what a model found for each query, so that anybody can score it again.

The format is trec_eval's: ``query Q0 document rank score tag``, six fields with white space in
between, one document a line. It has no way to carry an id that holds white space, so such an id is
refused. As trec_eval does, a reader goes by the scores: the rank column is ours to write and
nobody's to read, and scores are single-precision numbers.

Scores are written with nine significant digits. These bring back the same float32, and two
different ones stay in their order whatever the precision of the reader, so the ties of a run are
the same in the file as they were in memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from isal import igzip
from numpy.typing import NDArray

from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation.ranking import Run
from modernpubmed.lines import text_lines
from modernpubmed.manifest import replacing
from modernpubmed.suites import Suite

#: A run file's content: the documents of each query with their scores, in the order of the file.
Ranking = Mapping[str, Sequence[tuple[str, float]]]

_LARGEST = float(np.finfo(np.float32).max)


def write_run(run: Run, suite: Suite, path: str | Path, tag: str) -> Path:
    """Writes a run as a TREC run file; one already there is replaced.

    Args:
        run: The ranking of ``suite``'s documents for its queries. A query that nothing was found
            for has no line.
        suite: Gives the ids.
        path: Where to; packed by gzip if the name ends in ``.gz``. The same run gives the same
            bytes.
        tag: The name of what made it; white space in it becomes ``_``.

    Raises:
        ModernPubMedError: An id holds white space, which the format cannot carry, or is empty.
    """
    target = Path(path)
    for what, ids in (("query", suite.query_ids), ("document", suite.corpus_ids)):
        for identifier in ids:
            if identifier.split() != [identifier]:
                raise ModernPubMedError(
                    f"the {what} id {identifier!r} is empty or holds white space, which a TREC run "
                    "file cannot carry",
                    file=target,
                    remedy="rename the id in the suite, or evaluate without writing runs",
                )
    tag = "_".join(tag.split()) or "run"
    with replacing(target) as temporary, temporary.open("wb") as file:
        if target.suffix == ".gz":
            with igzip.IGzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
                for lines in _lines(run, suite, tag):
                    packed.write(lines)
        else:
            file.writelines(_lines(run, suite, tag))
    return target


def read_run(path: str | Path) -> dict[str, list[tuple[str, float]]]:
    """The documents and scores of each query in a TREC run file, in the order of the file.

    Args:
        path: The file, plain or compressed by gzip or Zstandard. Blank lines are none.

    Raises:
        ModernPubMedError: The file cannot be read or holds nothing; a line has another number of
            fields than six, a score that is no finite float32 number, or a document that the
            query has already (names the line).
    """
    file = Path(path)
    found: dict[str, dict[str, float]] = {}
    for number, line in text_lines(file):
        fields = line.split()
        if not fields:
            continue
        place = f"line {number}"
        if len(fields) != 6:
            raise ModernPubMedError(
                f"{len(fields)} fields where a TREC run has six",
                file=file,
                record=place,
                remedy="write each line as: query Q0 document rank score tag",
            )
        query, _, document, _, value, _ = fields
        documents = found.setdefault(query, {})
        if document in documents:
            raise ModernPubMedError(
                f"the document {document!r} is there already for the query {query!r}",
                file=file,
                record=place,
                remedy="give each document once for a query",
            )
        documents[document] = _number(value, file, place)
    if not found:
        raise ModernPubMedError("the run is empty", file=file, remedy="give a run with lines")
    return {query: list(documents.items()) for query, documents in found.items()}


def match_run(ranking: Ranking, suite: Suite, file: str | Path) -> tuple[Run, int]:
    """A run file's content as a ranking of a suite's documents, and how many queries it lacks.

    The k of the result is the longest list's. Documents are put in falling order of score (as
    float32), equal scores in rising order of their ids.

    Args:
        ranking: What ``read_run`` gave.
        suite: What it is a run on.
        file: Its name, for the messages.

    Raises:
        ModernPubMedError: A query or a document is none of the suite's (names it). A query that
            the suite had left out because nothing is relevant to it is none of the suite's either.

    >>> suite = Suite("s", ("p", "q"), ("x", "y"), ("a", "b"), ("x", "y"), {})
    >>> run, missing = match_run({"q": [("b", 0.5), ("a", 0.5)]}, suite, "a.run")
    >>> run.documents.tolist(), missing
    ([[-1, -1], [0, 1]], 1)
    """
    rows = {identifier: row for row, identifier in enumerate(suite.query_ids)}
    positions = {identifier: position for position, identifier in enumerate(suite.corpus_ids)}
    # One column at least, so that an empty run is a run too.
    k = max([1, *map(len, ranking.values())])
    documents: NDArray[np.int64] = np.full((len(rows), k), -1, dtype=np.int64)
    scores: NDArray[np.float32] = np.full((len(rows), k), -np.inf, dtype=np.float32)
    for query, listed in ranking.items():
        if query not in rows:
            raise _unknown("query", query, suite, file)
        for document, _ in listed:
            if document not in positions:
                raise _unknown("document", document, suite, file)
        values = np.array([value for _, value in listed], dtype=np.float32).tolist()
        best = sorted(
            zip(values, (document for document, _ in listed), strict=True),
            key=lambda pair: (-pair[0], pair[1]),
        )
        row = rows[query]
        documents[row, : len(best)] = [positions[document] for _, document in best]
        scores[row, : len(best)] = [value for value, _ in best]
    return Run(documents, scores), len(rows) - len(ranking)


def _lines(run: Run, suite: Suite, tag: str) -> Iterator[bytes]:
    """The file's content, a block a query."""
    for query, documents, scores in zip(
        suite.query_ids, run.documents.tolist(), run.scores.tolist(), strict=True
    ):
        lines = [
            f"{query} Q0 {suite.corpus_ids[document]} {rank} {score:.9g} {tag}\n"
            for rank, (document, score) in enumerate(zip(documents, scores, strict=True), start=1)
            if document >= 0
        ]
        yield "".join(lines).encode()


def _number(value: str, file: Path, place: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not abs(number) <= _LARGEST:
        raise ModernPubMedError(
            f"the score {value!r} is no finite float32 number",
            file=file,
            record=place,
            remedy="give a finite score",
        )
    return number


def _unknown(what: str, identifier: str, suite: Suite, file: str | Path) -> ModernPubMedError:
    return ModernPubMedError(
        f"the {what} {identifier!r} is not in the suite {suite.name}",
        file=file,
        remedy="give a run on this very suite (queries that nothing is relevant to are not in it)",
    )

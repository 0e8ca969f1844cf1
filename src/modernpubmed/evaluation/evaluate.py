"""One model on one suite: ``evaluate`` in, ``Result`` out, kept as JSON with every query's score.

A result carries what is needed to argue with it: per-query scores (for significance tests and for
looking at what went wrong), counts of cut texts, the time, and a manifest that names the suite's
files and the model by SHA-256.
"""

from __future__ import annotations

import json
import re
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modernpubmed.encoder import TruncationWarning
from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation.bm25 import BM25, bm25_settings, rank_bm25
from modernpubmed.evaluation.metrics import DEPTH, METRICS, score
from modernpubmed.evaluation.ranking import Run, rank
from modernpubmed.manifest import Manifest, replacing
from modernpubmed.protocols import TextEncoder
from modernpubmed.suites import Suite

#: Called with what is being done ("queries of medquad_focus"), how many are done, and of how many.
Progress = Callable[[str, int, int], None]

# Texts between two calls of the progress function.
_SLICE = 1024


@dataclass(frozen=True, slots=True)
class Result:
    """How one model did on one suite.

    Attributes:
        model: The model's short name, or ``BM25``.
        suite: The suite's name.
        metrics: The mean over queries of each of the eight metrics, in the published order.
        query_ids: The queries' ids.
        per_query: Each metric's value for each query, in the order of ``query_ids``.
        documents: Number of documents.
        truncated_queries: How many different query texts were cut to the model's length.
        truncated_documents: How many different document texts were.
        seconds: Wall-clock time of encoding and ranking.
        manifest: Where it came from.
    """

    model: str
    suite: str
    metrics: Mapping[str, float]
    query_ids: tuple[str, ...]
    per_query: Mapping[str, tuple[float, ...]]
    documents: int
    truncated_queries: int
    truncated_documents: int
    seconds: float
    manifest: Manifest


def evaluate(encoder: TextEncoder, suite: Suite, *, progress: Progress | None = None) -> Result:
    """The eight metrics of a model on a suite.

    Equal texts are encoded once, so that equal documents tie.

    Args:
        encoder: The model; queries go through ``encode_query``, documents ``encode_document``.
        suite: What to measure on.
        progress: Called while encoding.

    Raises:
        ModernPubMedError: The encoder gives vectors of another shape, or not finite.
    """
    start = time.perf_counter()
    before = encoder.truncated
    queries = _encode(encoder.encode_query, suite.queries, f"queries of {suite.name}", progress)
    between = encoder.truncated
    corpus = _encode(encoder.encode_document, suite.corpus, f"documents of {suite.name}", progress)
    after = encoder.truncated
    run = rank(queries, corpus, suite.corpus_ids, DEPTH)
    return _result(
        encoder.name,
        suite,
        run,
        time.perf_counter() - start,
        truncated=(between - before, after - between),
        inputs={"model": encoder.fingerprint},
        settings={"similarity": "cosine", "dimension": encoder.dimension},
    )


def evaluate_bm25(suite: Suite) -> Result:
    """The eight metrics of BM25 on a suite.

    >>> suite = Suite("tiny", ("q",), ("fever",), ("a", "b"), ("Pain.", "Fever."), {"q": {"b": 1}})
    >>> evaluate_bm25(suite).metrics["nDCG@10"]
    1.0
    """
    start = time.perf_counter()
    run = rank_bm25(suite, DEPTH)
    return _result(BM25, suite, run, time.perf_counter() - start, settings=bm25_settings())


def result_path(folder: str | Path, model: str, suite: str) -> Path:
    """Where a model's result on a suite is kept.

    >>> result_path("results", "NeuML/model", "medquad").as_posix()
    'results/NeuML_model__medquad.json'
    """
    return Path(folder) / f"{_file_name(model)}__{_file_name(suite)}.json"


def write_result(result: Result, folder: str | Path) -> Path:
    """Writes it to its ``result_path`` and returns that; one already there is replaced."""
    path = result_path(folder, result.model, result.suite)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(asdict(result), ensure_ascii=False) + "\n", "utf-8")
    return path


def read_result(path: str | Path) -> Result:
    """Reads what ``write_result`` wrote.

    Raises:
        ModernPubMedError: There is no such file, or it is not a result of ours.
    """
    file = Path(path)
    try:
        values: dict[str, Any] = json.loads(file.read_text("utf-8"))
        values["query_ids"] = tuple(values["query_ids"])
        values["per_query"] = {name: tuple(row) for name, row in values["per_query"].items()}
        values["manifest"] = Manifest(**values["manifest"])
        result = Result(**values)
        complete = list(result.metrics) == list(result.per_query) == list(METRICS) and all(
            len(row) == len(result.query_ids) for row in result.per_query.values()
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModernPubMedError(
            f"no readable result ({error})", file=file, remedy="evaluate again"
        ) from error
    if not complete:
        raise ModernPubMedError(
            "a result with metrics or queries missing", file=file, remedy="evaluate again"
        )
    return result


def read_results(folder: str | Path) -> list[Result]:
    """All results in a folder, in the order of their names.

    Raises:
        ModernPubMedError: There is none, or one of them is not readable.
    """
    files = sorted(Path(folder).glob("*__*.json"))
    if not files:
        raise ModernPubMedError(
            "holds no results", file=folder, remedy="make them with modernpubmed compare --out"
        )
    return [read_result(file) for file in files]


def _encode(
    encode: Callable[[Sequence[str]], NDArray[np.float32]],
    texts: Sequence[str],
    what: str,
    progress: Progress | None,
) -> NDArray[np.float32]:
    places: dict[str, int] = {}
    rows = np.array([places.setdefault(text, len(places)) for text in texts])
    different = list(places)
    vectors = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)  # the result counts them
        for start in range(0, len(different), _SLICE):
            if progress is not None:
                progress(what, start, len(different))
            vectors.append(encode(different[start : start + _SLICE]))
    if progress is not None:
        progress(what, len(different), len(different))
    stacked = np.concatenate(vectors)
    if stacked.ndim != 2 or len(stacked) != len(different):
        raise ModernPubMedError(
            f"{len(different)} texts gave vectors of shape {stacked.shape}",
            record=what,
            remedy="give an encoder that returns one row a text",
        )
    vectors_of_all: NDArray[np.float32] = stacked[rows]
    return vectors_of_all


def _result(
    model: str,
    suite: Suite,
    run: Run,
    seconds: float,
    *,
    truncated: tuple[int, int] = (0, 0),
    inputs: Mapping[str, str] | None = None,
    settings: Mapping[str, Any],
) -> Result:
    values = score(run, suite)
    return Result(
        model=model,
        suite=suite.name,
        metrics={name: float(values[name].mean()) for name in METRICS},
        query_ids=suite.query_ids,
        per_query={name: tuple(values[name].tolist()) for name in METRICS},
        documents=len(suite.corpus),
        truncated_queries=truncated[0],
        truncated_documents=truncated[1],
        seconds=round(seconds, 3),
        manifest=Manifest(
            kind="result",
            inputs={**suite.sources, **(inputs or {})},
            settings={"metrics": "sentence-transformers >= 6", "depth": DEPTH, **settings},
            counts={
                "queries": len(suite.queries),
                "documents": len(suite.corpus),
                "queries_truncated": truncated[0],
                "documents_truncated": truncated[1],
            },
            dropped=suite.dropped,
        ),
    )


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)

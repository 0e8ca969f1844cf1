"""One model on one suite: ``evaluate`` in, ``Result`` out, kept as JSON with every query's score.

A result carries what is needed to argue with it: the metrics in both conventions, per-query scores
(for significance tests and for looking at what went wrong), the suite's version and the prompts,
counts of cut texts, the time, and a manifest that names the suite's files and the model by SHA-256.
What was found for each query can be kept beside it, as a TREC run file.
"""

from __future__ import annotations

import json
import re
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from modernpubmed.encoder import TruncationWarning
from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation.bm25 import BM25, bm25_settings, rank_bm25
from modernpubmed.evaluation.metrics import (
    METRICS,
    SENTENCE_TRANSFORMERS,
    TREC_EVAL,
    TREC_METRICS,
    depth_of,
    metric_names,
    score,
    score_trec,
)
from modernpubmed.evaluation.ranking import Run, check_finite, rank
from modernpubmed.evaluation.runs import match_run, read_run, write_run
from modernpubmed.evaluation.vectors import Encoded, cached
from modernpubmed.manifest import Manifest, replacing, sha256
from modernpubmed.protocols import TextEncoder
from modernpubmed.suites import Suite, suite_checksum

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
        metrics: The mean over queries of each metric in sentence-transformers' convention: the
            eight published ones in their order, then any further ones.
        query_ids: The queries' ids.
        per_query: Each metric's value for each query, in the order of ``query_ids``.
        documents: Number of documents.
        truncated_queries: How many different query texts were cut to the model's length.
        truncated_documents: How many different document texts were.
        seconds: Wall-clock time of encoding and ranking.
        manifest: Where it came from.
        suite_version: SHA-256 of what the suite holds, as ``suite_checksum`` gives it.
        trec_metrics: The same in trec_eval's convention: those of ``TREC_METRICS``, then any
            further ones.
        trec_per_query: Their value for each query.
        prompts: What the model put before a text, by role (``query``, ``document``); empty where
            it does not say, and for BM25.
        dimension: Of its vectors; 0 for BM25 and for a run that somebody else made.
        query_seconds: Wall-clock time of encoding the queries, when they were encoded (vectors
            that were kept take none now); 0 where nothing was.
        document_seconds: The same of the documents.
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
    suite_version: str
    trec_metrics: Mapping[str, float]
    trec_per_query: Mapping[str, tuple[float, ...]]
    prompts: Mapping[str, str]
    dimension: int
    query_seconds: float
    document_seconds: float


def evaluate(
    encoder: TextEncoder,
    suite: Suite,
    *,
    metrics: Sequence[str] = (),
    runs: str | Path | None = None,
    vectors: str | Path | None = None,
    progress: Progress | None = None,
) -> Result:
    """The metrics of a model on a suite, in both conventions.

    Equal texts are encoded once, so that equal documents tie.

    Args:
        encoder: The model; queries go through ``encode_query``, documents ``encode_document``.
        suite: What to measure on.
        metrics: Further metrics beside the default ones, as ``nDCG@20``.
        runs: Folder for the run file, which gets its ``run_path``; None writes none.
        vectors: Folder that keeps vectors for the next time; None keeps none.
        progress: Called while encoding.

    Raises:
        ModernPubMedError: A metric is none; the encoder gives vectors of another shape or another
            dimension than its own, or not finite; an id cannot be written to a run file.
    """
    depth = depth_of(metrics)
    start = time.perf_counter()
    queries = encode_suite(encoder, "query", suite, vectors, progress)
    corpus = encode_suite(encoder, "document", suite, vectors, progress)
    run = rank(queries.vectors, corpus.vectors, suite.corpus_ids, depth, query_ids=suite.query_ids)
    seconds = time.perf_counter() - start
    if runs is not None:
        write_run(run, suite, run_path(runs, encoder.name, suite.name), encoder.name)
    prompts = _prompts(encoder)
    return _result(
        encoder.name,
        suite,
        run,
        seconds,
        metrics,
        encoded=(queries, corpus),
        prompts=prompts,
        dimension=encoder.dimension,
        inputs={"model": encoder.fingerprint},
        settings={
            "depth": depth,
            "similarity": "cosine",
            "dimension": encoder.dimension,
            "prompts": prompts,
        },
    )


def evaluate_bm25(
    suite: Suite, *, metrics: Sequence[str] = (), runs: str | Path | None = None
) -> Result:
    """The metrics of BM25 on a suite, in both conventions.

    Args:
        suite: What to measure on.
        metrics: As in ``evaluate``.
        runs: As in ``evaluate``.

    Raises:
        ModernPubMedError: A metric is none; no document holds a word; an id cannot be written.

    >>> suite = Suite("tiny", ("q",), ("fever",), ("a", "b"), ("Pain.", "Fever."), {"q": {"b": 1}})
    >>> evaluate_bm25(suite).metrics["nDCG@10"]
    1.0
    """
    depth = depth_of(metrics)
    start = time.perf_counter()
    run = rank_bm25(suite, depth)
    seconds = time.perf_counter() - start
    if runs is not None:
        write_run(run, suite, run_path(runs, BM25, suite.name), BM25)
    settings = {"depth": depth, **bm25_settings()}
    return _result(BM25, suite, run, seconds, metrics, settings=settings)


def score_run(
    path: str | Path, suite: Suite, *, model: str | None = None, metrics: Sequence[str] = ()
) -> Result:
    """The metrics of a TREC run file that anybody made, in both conventions.

    Queries that the run lacks count 0, as ``trec_eval -c`` has it, and are counted in the
    manifest. A run that is shorter than a metric's k is taken as it is.

    Args:
        path: The run file.
        suite: What it is a run on.
        model: The name of what made it; None is the file's name without its endings.
        metrics: Further metrics beside the default ones.

    Raises:
        ModernPubMedError: A metric is none; the file is no run, or names a query or a document
            that the suite does not have.
    """
    depth_of(metrics)  # a metric that is none is refused before a long file is read
    file = Path(path)
    start = time.perf_counter()
    run, missing = match_run(read_run(file), suite, file)
    return _result(
        model or re.sub(r"(\.(run|trec|txt|gz|zst))+$", "", file.name),
        suite,
        run,
        time.perf_counter() - start,
        metrics,
        inputs={"run": sha256(file)},
        settings={"depth": run.documents.shape[1], "run": file.name},
        counts={"queries_missing_from_run": missing},
    )


def result_path(folder: str | Path, model: str, suite: str) -> Path:
    """Where a model's result on a suite is kept.

    >>> result_path("results", "NeuML/model", "medquad").as_posix()
    'results/NeuML_model__medquad.json'
    """
    return Path(folder) / f"{_file_name(model)}__{_file_name(suite)}.json"


def run_path(folder: str | Path, model: str, suite: str) -> Path:
    """Where a model's run on a suite is kept, beside its result.

    >>> run_path("results", "NeuML/model", "medquad").as_posix()
    'results/NeuML_model__medquad.run.gz'
    """
    return result_path(folder, model, suite).with_suffix(".run.gz")


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
        if "suite_version" not in values:
            raise ValueError("it is of an older version, without the suite's checksum")
        values["query_ids"] = tuple(values["query_ids"])
        for per_query in ("per_query", "trec_per_query"):
            values[per_query] = {name: tuple(row) for name, row in values[per_query].items()}
        values["manifest"] = Manifest(**values["manifest"])
        result = Result(**values)
        complete = _complete(result)
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


def _complete(result: Result) -> bool:
    """Whether every metric of both conventions has a value for every query."""
    return all(
        list(means) == list(rows)
        and list(means)[: len(default)] == list(default)
        and all(len(row) == len(result.query_ids) for row in rows.values())
        for means, rows, default in (
            (result.metrics, result.per_query, METRICS),
            (result.trec_metrics, result.trec_per_query, TREC_METRICS),
        )
    )


def _prompts(encoder: TextEncoder) -> dict[str, str]:
    """What the encoder puts before a query and a document, where it says so."""
    prompts: Mapping[str, str] = getattr(encoder, "prompts", {})
    return {role: prompts[role] for role in ("query", "document") if role in prompts}


def encode_suite(
    encoder: TextEncoder,
    role: Literal["query", "document"],
    suite: Suite,
    folder: str | Path | None = None,
    progress: Progress | None = None,
) -> Encoded:
    """The vectors of a suite's queries or documents, each different text encoded once.

    Args:
        encoder: The model.
        role: Which of the two.
        suite: The suite.
        folder: That keeps vectors for the next time; None keeps none.
        progress: Called while encoding.

    Raises:
        ModernPubMedError: As ``evaluate``, of the encoder's vectors.
    """
    if role == "query":
        encode, ids, texts = encoder.encode_query, suite.query_ids, suite.queries
        what = f"queries of {suite.name}"
    else:
        encode, ids, texts = encoder.encode_document, suite.corpus_ids, suite.corpus
        what = f"documents of {suite.name}"
    places: dict[str, int] = {}
    rows = np.array([places.setdefault(text, len(places)) for text in texts], dtype=np.int64)
    different = list(places)

    def work() -> Encoded:
        before, start = encoder.truncated, time.perf_counter()
        vectors = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TruncationWarning)  # the result counts them
            for first in range(0, len(different), _SLICE):
                if progress is not None:
                    progress(what, first, len(different))
                vectors.append(_named(encode, different[first : first + _SLICE], texts, ids, role))
        stacked = np.concatenate(vectors)
        if stacked.shape != (len(different), encoder.dimension):
            raise ModernPubMedError(
                f"{len(different)} texts gave vectors of shape {stacked.shape}, not "
                f"{(len(different), encoder.dimension)}",
                record=what,
                remedy=f"give an encoder that returns one row a text, of its own dimension "
                f"({encoder.name} says {encoder.dimension})",
            )
        if not np.isfinite(stacked).all():
            # Of all texts, not only of the different ones: every id is named or counted.
            check_finite(stacked[rows], ids, role)
        return Encoded(stacked, encoder.truncated - before, time.perf_counter() - start)

    if folder is None:
        encoded = work()
    else:
        encoded = cached(
            work,
            different,
            Path(folder),
            fingerprint=encoder.fingerprint,
            role=role,
            prompt=_prompts(encoder).get(role, ""),
            max_tokens=getattr(encoder, "max_tokens", None),
        )
    if progress is not None:
        progress(what, len(different), len(different))
    if len(different) == len(texts):
        return encoded
    return replace(encoded, vectors=encoded.vectors[rows])


def _named(
    encode: Callable[[Sequence[str]], NDArray[np.float32]],
    part: Sequence[str],
    texts: Sequence[str],
    ids: Sequence[str],
    role: str,
) -> NDArray[np.float32]:
    """``encode(part)``; where it refuses a text by its place in the part, by its id instead."""
    try:
        return encode(part)
    except ModernPubMedError as error:
        place = re.fullmatch(r"text ([0-9]+)", error.record or "")
        if place is None or int(place[1]) >= len(part):
            raise
        identifier = ids[texts.index(part[int(place[1])])]
        raise ModernPubMedError(
            error.cause, file=error.file, record=f"{role} {identifier!r}", remedy=error.remedy
        ) from error


def _result(
    model: str,
    suite: Suite,
    run: Run,
    seconds: float,
    metrics: Sequence[str],
    *,
    encoded: tuple[Encoded, Encoded] | None = None,
    prompts: Mapping[str, str] | None = None,
    dimension: int = 0,
    inputs: Mapping[str, str] | None = None,
    settings: Mapping[str, Any],
    counts: Mapping[str, int] | None = None,
) -> Result:
    theirs = score(run, suite, metric_names(METRICS, metrics))
    trec = score_trec(run, suite, metric_names(TREC_METRICS, metrics))
    truncated = [side.truncated for side in encoded] if encoded else [0, 0]
    took = [round(side.seconds, 3) for side in encoded] if encoded else [0.0, 0.0]
    return Result(
        model=model,
        suite=suite.name,
        metrics={name: float(row.mean()) for name, row in theirs.items()},
        query_ids=suite.query_ids,
        per_query={name: tuple(row.tolist()) for name, row in theirs.items()},
        documents=len(suite.corpus),
        truncated_queries=truncated[0],
        truncated_documents=truncated[1],
        seconds=round(seconds, 3),
        manifest=Manifest(
            kind="result",
            inputs={**suite.sources, **(inputs or {})},
            settings={
                "metrics": f"{SENTENCE_TRANSFORMERS} >= 6",
                "trec_metrics": TREC_EVAL,
                **settings,
            },
            counts={
                "queries": len(suite.queries),
                "documents": len(suite.corpus),
                "queries_truncated": truncated[0],
                "documents_truncated": truncated[1],
                **(counts or {}),
            },
            dropped=suite.dropped,
        ),
        suite_version=suite_checksum(suite),
        trec_metrics={name: float(row.mean()) for name, row in trec.items()},
        trec_per_query={name: tuple(row.tolist()) for name, row in trec.items()},
        prompts=prompts or {},
        dimension=dimension,
        query_seconds=took[0],
        document_seconds=took[1],
    )


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)

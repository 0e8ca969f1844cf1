"""What a comparison of models holds, and how it is kept on disk: ``Comparison`` and its parts.

Plain figures, all worked out by ``compare.py``: the text, Markdown and HTML forms only print
them. ``comparison.json`` holds everything but the results, which stand beside it in files of
their own and are named in it with their SHA-256, so that nobody reads a table together with
results that it was not made of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation.evaluate import Result, read_result, result_path
from modernpubmed.evaluation.measured import Estimate
from modernpubmed.evaluation.significance import PairedTest
from modernpubmed.evaluation.similarity import Correlation, ExampleScore
from modernpubmed.manifest import replacing, sha256

COMPARISON_NAME = "comparison.json"


@dataclass(frozen=True, slots=True)
class Improvement:
    """How much better the first model is than another.

    Attributes:
        absolute: The difference of the metric.
        percent: The difference in per cent of the other's value; None where that is 0.
    """

    absolute: float
    percent: float | None


@dataclass(frozen=True, slots=True)
class Difference:
    """The first model against another on one metric of one suite, query by query.

    Attributes:
        rival: The other model.
        test: The difference with its interval, the uncorrected p-values, wins, ties and losses.
        bootstrap_holm: The bootstrap's p-value after Holm's correction over the family (see
            ``Method``); None for a metric that is not the main one, whose p-values stay
            uncorrected.
        randomisation_holm: The same of the randomisation test.
    """

    rival: str
    test: PairedTest
    bootstrap_holm: float | None = None
    randomisation_holm: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One metric of one suite.

    Attributes:
        metric: Its name.
        values: Each model's mean over queries, the first model first.
        improvements: The first model's improvement over each of the others, in their order.
        intervals: Each model's mean with its 95 % bootstrap interval.
        differences: The first model against each of the others.
    """

    metric: str
    values: tuple[float, ...]
    improvements: tuple[Improvement, ...]
    intervals: tuple[Estimate, ...]
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class SuiteTable:
    """One suite's table, in one convention.

    Attributes:
        suite: Its name.
        models: The names of the models, the first one's improvements being shown.
        rows: One for each metric.
        notes: What has to be said with it: sizes, what was left out, texts that were cut.
        convention: ``sentence-transformers`` or ``trec_eval``.
        version: SHA-256 of what the suite holds.
        queries: Number of queries.
        documents: Number of documents.
    """

    suite: str
    models: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    convention: str
    version: str
    queries: int
    documents: int


@dataclass(frozen=True, slots=True)
class Average:
    """A model's mean over suites on the main metric, each suite weighing the same.

    Attributes:
        model: Its name.
        suites: The suites that it has a result on.
        score: The mean of their means, with its interval (bootstrap stratified by suite).
        difference: The first model's mean over these suites less this one's, query by query;
            None for the first model.
    """

    model: str
    suites: tuple[str, ...]
    score: Estimate
    difference: Estimate | None


@dataclass(frozen=True, slots=True)
class Document:
    """A document that a model returned, or should have.

    Attributes:
        id: Its id.
        text: Its text; of a long one the beginning, which ends in an ellipsis.
        grade: What it is worth to the query: above 0 is relevant, 0 if nobody judged it.
        score: What the model gave it; None where no model is spoken of.
    """

    id: str
    text: str
    grade: int
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model returned for a query.

    Attributes:
        model: Its name.
        value: Its score on the query, on the main metric.
        documents: The first documents; None where its run file is not there.
        first_relevant: Rank of the first relevant document, from 1; None where its run has none.
    """

    model: str
    value: float
    documents: tuple[Document, ...] | None
    first_relevant: int | None


@dataclass(frozen=True, slots=True)
class HurtQuery:
    """A query on which the first model loses much against a rival.

    Attributes:
        suite: Its suite.
        rival: The model it loses against.
        query_id: Its id.
        query: Its text; of a long one the beginning, which ends in an ellipsis.
        loss: The rival's score less the first model's, on the main metric; above 0.
        relevant: The documents relevant to it, the highest grade first; at most ten.
        relevant_count: How many there are.
        answers: What each model of the suite returned, the first model first.
    """

    suite: str
    rival: str
    query_id: str
    query: str
    loss: float
    relevant: tuple[Document, ...]
    relevant_count: int
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Model:
    """What identifies a model.

    Attributes:
        name: Its short name.
        fingerprint: SHA-256 of what computes its vectors; empty for BM25 and for foreign runs.
        prompts: What it puts before a ``query`` and a ``document``.
        dimension: Of its vectors; 0 where it has none.
    """

    name: str
    fingerprint: str
    prompts: Mapping[str, str]
    dimension: int


@dataclass(frozen=True, slots=True)
class Method:
    """How the figures were tested.

    Attributes:
        metric: The main metric. Its p-values are corrected by Holm's method, the tests of both
            kinds each in a family of their own: every suite × rival, within a convention.
        family: How many comparisons that is.
        draws: Bootstrap samples and sets of signs.
        seed: What they start from.
    """

    metric: str
    family: int
    draws: int
    seed: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Models side by side.

    Attributes:
        tables: One for each suite, by sentence-transformers' convention.
        results: What the tables were made of, per-query scores and all.
        examples: The similarity examples of each model.
        correlations: Each model's agreement with each file of judged pairs.
        trec_tables: The tables by trec_eval's convention.
        averages: Each model's mean over suites, by sentence-transformers' convention.
        trec_averages: The same by trec_eval's.
        hurt: Where the first model loses most against each rival, by suite; empty where the
            suites' texts were not given.
        models: Who is compared, the first model first.
        method: How.
    """

    tables: tuple[SuiteTable, ...]
    results: tuple[Result, ...]
    examples: tuple[ExampleScore, ...]
    correlations: tuple[Correlation, ...]
    trec_tables: tuple[SuiteTable, ...]
    averages: tuple[Average, ...]
    trec_averages: tuple[Average, ...]
    hurt: tuple[HurtQuery, ...]
    models: tuple[Model, ...]
    method: Method


def write_comparison(comparison: Comparison, folder: str | Path) -> Path:
    """Writes ``comparison.json`` beside the results and returns its path; replaces an old one.

    Raises:
        ModernPubMedError: One of its results is not in the folder.
    """
    path = Path(folder) / COMPARISON_NAME
    content: dict[str, Any] = {"results": {}}
    for result in comparison.results:
        file = result_path(folder, result.model, result.suite)
        if not file.is_file():
            raise ModernPubMedError(
                "the result that the comparison is made of is not there",
                file=file,
                remedy="write the results to the folder first",
            )
        content["results"][file.name] = sha256(file)
    for part in fields(comparison):
        if part.name != "results":
            content[part.name] = _plain(getattr(comparison, part.name))
    with replacing(path) as temporary:
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", "utf-8")
    return path


def read_comparison(folder: str | Path) -> Comparison:
    """Reads what ``write_comparison`` wrote, with the results beside it.

    Raises:
        ModernPubMedError: There is no such file, it is not one of ours, or a result is not the
            one that it was made of.
    """
    file = Path(folder) / COMPARISON_NAME
    remedy = "make it with modernpubmed compare --out"
    try:
        content = json.loads(file.read_text("utf-8"))
        listed = dict(content.pop("results"))
        hints = get_type_hints(Comparison)
        parts = {name: _typed(value, hints[name]) for name, value in content.items()}
        made = Comparison(results=(), **parts)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModernPubMedError(
            f"no readable comparison ({error})", file=file, remedy=remedy
        ) from error
    results = []
    for name, checksum in listed.items():
        path = file.parent / name
        results.append(read_result(path))
        if sha256(path) != checksum:
            raise ModernPubMedError(
                f"has changed since {COMPARISON_NAME} was made of it", file=path, remedy=remedy
            )
    return Comparison(results=tuple(results), **parts) if results else made


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _typed(value: Any, hint: Any) -> Any:
    """What JSON holds as what the annotation says: dataclasses, tuples, mappings, None."""
    if value is not None and NoneType in get_args(hint):
        hint = next(part for part in get_args(hint) if part is not NoneType)
    if is_dataclass(hint) and isinstance(hint, type):
        hints = get_type_hints(hint)
        return hint(**{name: _typed(part, hints[name]) for name, part in value.items()})
    if get_origin(hint) is tuple:
        return tuple(_typed(part, get_args(hint)[0]) for part in value)
    return value

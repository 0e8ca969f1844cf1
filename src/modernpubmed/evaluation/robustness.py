"""How a model's score holds when the texts are not as tidy as a suite's.

Three kinds of condition. A *perturbation* changes the queries and leaves the documents (typing
errors, capitals, abbreviations, spelling). A *truncation* cuts the documents to a number of tokens
and leaves the queries. A *stratum* changes nothing and looks at a part of the queries: those whose
relevant documents are short or long, or were published in certain years.

A perturbation's score is over the queries that it changed, and so is what it is compared with:
averaging in the untouched ones would hide the effect. Given up: perturbing documents, which is
what a fine-tuned tokenizer would notice last and costs an encoding of the corpus each time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation.evaluate import Progress, Result, evaluate
from modernpubmed.evaluation.measured import Condition, Robustness
from modernpubmed.evaluation.perturb import PERTURBATIONS, Perturbation
from modernpubmed.evaluation.significance import bootstrap_mean
from modernpubmed.lines import json_lines
from modernpubmed.protocols import TextEncoder
from modernpubmed.suites import Suite, suite_checksum

#: Lengths at which documents are cut, in the model's own tokens.
CUTS = (64, 128, 256, 512)
_STRATA = 4
_FEWEST = 5


def measure_robustness(
    encoder: TextEncoder,
    suite: Suite,
    *,
    metric: str = "nDCG@10",
    cut_at: Callable[[int], TextEncoder] | None = None,
    cuts: Sequence[int] = CUTS,
    years: Mapping[str, int] | None = None,
    perturbations: Mapping[str, Perturbation] = PERTURBATIONS,
    vectors: Path | None = None,
    progress: Progress | None = None,
) -> Robustness:
    """A model's score on a suite under every condition.

    Args:
        encoder: The model.
        suite: What to measure on.
        metric: One of the metrics of a result.
        cut_at: Gives the same model reading so many tokens; None leaves truncation out.
        cuts: Those lengths; what the model does not read anyway is left out.
        years: Year of publication by document id; None leaves these strata out.
        perturbations: What to do to queries, by name.
        vectors: Folder that keeps vectors, so that documents are encoded once.
        progress: Called while encoding.

    Returns:
        Conditions in this order: perturbations, truncations, strata by document length (quarters
        of the queries, in words), strata by year (quarters). One that changes no query, or a
        stratum of fewer than five queries, is left out.

    Raises:
        ModernPubMedError: There is no such metric, or the encoder fails.
    """
    clean = evaluate(encoder, suite, vectors=vectors, progress=progress)
    if metric not in clean.per_query:
        raise ModernPubMedError(
            f"no metric {metric!r}", remedy=f"give one of {', '.join(clean.per_query)}"
        )
    before = np.array(clean.per_query[metric])
    conditions: list[Condition] = []
    for name, perturb in perturbations.items():
        queries = tuple(map(perturb, suite.queries))
        changed = np.array([a != b for a, b in zip(queries, suite.queries, strict=True)])
        if changed.any():
            part = _part(suite, changed)
            part = replace(part, queries=tuple(np.array(queries, dtype=object)[changed]))
            result = evaluate(encoder, part, vectors=vectors, progress=progress)
            conditions.append(
                _condition(name, "perturbation", result, metric, before[changed], len(part.queries))
            )
    longest = getattr(encoder, "max_tokens", max(cuts, default=0) + 1)
    for tokens in sorted(cuts):
        if cut_at is None or tokens >= longest:
            break
        result = evaluate(cut_at(tokens), suite, vectors=vectors, progress=progress)
        conditions.append(
            _condition(
                f"documents cut at {tokens} tokens",
                "truncation",
                result,
                metric,
                before,
                result.truncated_documents,
            )
        )
    words = {
        identifier: len(text.split())
        for identifier, text in zip(suite.corpus_ids, suite.corpus, strict=True)
    }
    conditions += _strata(suite, before, words, "relevant document of {} words")
    conditions += _strata(suite, before, years or {}, "published {}")
    return Robustness(
        model=encoder.name,
        suite=suite.name,
        version=suite_checksum(suite),
        metric=metric,
        clean=bootstrap_mean(before),
        conditions=tuple(conditions),
        fingerprint=encoder.fingerprint,
    )


def publication_years(path: str | Path) -> dict[str, int]:
    """The year of each document of a suite, where the suite says it: often for none.

    Args:
        path: What ``read_suite`` was given: a BEIR folder, whose ``corpus.jsonl`` has ``year`` in
            a line or in its ``metadata``, or a Parquet file of pairs with the column ``year``.

    Raises:
        ModernPubMedError: The file cannot be read, or a year is not an integer.
    """
    source = Path(path)
    if source.suffix == ".parquet":
        try:
            years = pq.read_table(source, columns=["year"])["year"].to_pylist()
        except (pa.ArrowException, OSError, KeyError) as error:
            raise ModernPubMedError(
                f"no years to be read ({error})", file=source, remedy="make the pairs again"
            ) from error
        return {str(row): year for row, year in enumerate(years, start=1) if year is not None}
    found: dict[str, int] = {}
    for file in sorted(source.glob("corpus.jsonl*"))[:1]:
        for number, record in json_lines(file, '{"_id": …, "text": …, "year": 2020}'):
            metadata = record.get("metadata")
            year = record.get("year", metadata.get("year") if isinstance(metadata, dict) else None)
            if year is None:
                continue
            if not isinstance(year, int):
                raise ModernPubMedError(
                    f"the year {year!r} is no integer",
                    file=file,
                    record=f"line {number}",
                    remedy="give the year as a number, or leave it out",
                )
            found[str(record["_id"])] = year
    return found


def _part(suite: Suite, chosen: NDArray[np.bool_]) -> Suite:
    """The suite with some of its queries."""
    ids = tuple(query for query, wanted in zip(suite.query_ids, chosen, strict=True) if wanted)
    texts = tuple(text for text, wanted in zip(suite.queries, chosen, strict=True) if wanted)
    return replace(
        suite, query_ids=ids, queries=texts, qrels={query: suite.qrels[query] for query in ids}
    )


def _condition(
    name: str,
    kind: str,
    result: Result,
    metric: str,
    before: NDArray[np.float64],
    changed: int,
) -> Condition:
    values = np.array(result.per_query[metric])
    return Condition(
        name=name,
        kind=kind,
        queries=len(values),
        changed=changed,
        score=bootstrap_mean(values),
        difference=bootstrap_mean(values - before),
    )


def _strata(
    suite: Suite, scores: NDArray[np.float64], property_of: Mapping[str, int], name: str
) -> list[Condition]:
    """Quarters of the queries by a property of their relevant document (the mean of several)."""
    values = np.full(len(suite.query_ids), np.nan)
    for place, query in enumerate(suite.query_ids):
        found = [property_of[one] for one in suite.relevant(query) if one in property_of]
        if found:
            values[place] = np.mean(found)
    there = ~np.isnan(values)
    if not there.any():
        return []
    known = np.sort(values[there])
    # Equal values stay together, so the quarters may be uneven, or fewer.
    starts = np.unique(known[[len(known) * quarter // _STRATA for quarter in range(_STRATA)]])
    conditions = []
    for low, high in pairwise([*starts, np.inf]):
        inside = there & (values >= low) & (values < high)
        if inside.sum() < _FEWEST:
            continue
        span = f"{values[inside].min():.0f}–{values[inside].max():.0f}"
        conditions.append(
            Condition(
                name=name.format(span),
                kind="stratum",
                queries=int(inside.sum()),
                changed=0,
                score=bootstrap_mean(scores[inside]),
            )
        )
    return conditions

"""What is measured of a model beside retrieval, as it is kept on disk and read by the report.

One small JSON file for each kind of measurement, model and subject: ``contrast``,
``discrimination``, ``robustness``, ``contamination``, ``speed``. The types hold figures only:
whoever measures fills them in, the report prints them. Retrieval results have a file of their own
(``evaluate.Result``), as they carry every query's score.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import replacing


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval.

    Attributes:
        value: The figure.
        low: The interval's lower end.
        high: Its upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ContrastClass:
    """How a model does on one class of the clinical contrast suite.

    Attributes:
        triples: How many.
        accuracy: Share of them in which the paraphrase is nearer than the contrast.
        margin: Mean of cosine to the paraphrase minus cosine to the contrast.
    """

    triples: int
    accuracy: Estimate
    margin: float


@dataclass(frozen=True, slots=True)
class ContrastScore:
    """A model on the clinical contrast suite.

    Attributes:
        model: The model's short name, or ``BM25``.
        half: ``dev``, ``test`` or ``all``.
        version: Content checksum of the triples used.
        overall: Accuracy over all triples, each class weighing the same.
        classes: By class, in the suite's order.
        wordings: Accuracy by how far the paraphrase is in words: ``near``, ``free``.
        margins: Each triple's margin by id, in the suite's order.
        fingerprint: The model's; empty for BM25.
    """

    model: str
    half: str
    version: str
    overall: Estimate
    classes: Mapping[str, ContrastClass]
    wordings: Mapping[str, Estimate]
    margins: Mapping[str, float]
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Discrimination:
    """How well a model tells related medical texts from the unrelated and the non-medical.

    Attributes:
        model: The model's short name.
        pairs: Number of pairs by group: ``related``, ``unrelated``, ``non-medical``.
        histograms: By group, counts of cosines in ``bins`` equal bins from -1 to 1.
        quantiles: By group, the cosines at 1, 5, 25, 50, 75, 95 and 99 %.
        auroc: By group that is not ``related``: the chance that a related pair's cosine is higher.
        overlap: By the same groups: the overlapping coefficient of the two distributions, 0 to 1.
        false_similarity: By the same groups: the share at or above the cosine that keeps
            ``recall`` of the related pairs.
        recall: That recall.
        sources: SHA-256 of what the pairs were made of, by name.
        fingerprint: The model's.
    """

    model: str
    pairs: Mapping[str, int]
    histograms: Mapping[str, tuple[int, ...]]
    quantiles: Mapping[str, tuple[float, ...]]
    auroc: Mapping[str, Estimate]
    overlap: Mapping[str, float]
    false_similarity: Mapping[str, Estimate]
    recall: float
    sources: Mapping[str, str]
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Condition:
    """A model on a suite under one condition.

    Attributes:
        name: ``typos``, ``upper case``, ``documents cut at 128 tokens``, ``published 2015-2019`` …
        kind: ``perturbation``, ``truncation`` or ``stratum``.
        queries: How many queries it is over.
        changed: How many of these queries' texts (or documents) the condition changed.
        score: The metric.
        difference: Against the same queries unchanged; None for a stratum.
    """

    name: str
    kind: str
    queries: int
    changed: int
    score: Estimate
    difference: Estimate | None = None


@dataclass(frozen=True, slots=True)
class Robustness:
    """A model on a suite under several conditions.

    Attributes:
        model: The model's short name.
        suite: The suite's name.
        version: The suite's content checksum.
        metric: Which metric, e.g. ``nDCG@10``.
        clean: It without any condition.
        conditions: Under each condition.
        fingerprint: The model's.
    """

    model: str
    suite: str
    version: str
    metric: str
    clean: Estimate
    conditions: tuple[Condition, ...]
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Contamination:
    """What of a suite was in a model's training pairs, and the scores without it.

    Attributes:
        model: The model's short name.
        suite: The suite's name.
        version: The suite's content checksum.
        metric: Which metric the scores are of.
        training_texts: How many different texts the model was trained on.
        exact_queries: Queries whose text, folded, is among them.
        near_queries: Further queries that are near-duplicates of one.
        exact_documents: Documents whose text, folded, is among them.
        near_documents: Further documents that are near-duplicates of one.
        exact_pairs: Queries that stand in one training pair with a document relevant to them.
        clean_queries: Queries without any overlap, neither their own nor a relevant document's.
        full: The metric on all queries; None where there is no result.
        clean: The metric on the clean queries; None where there is no result, or none is left.
        examples: A few of the overlapping ids with why, for looking at.
        sources: SHA-256 of the pairs looked at, by name.
        unseen_sources: Inputs of the model's manifest that were not given, by name.
    """

    model: str
    suite: str
    version: str
    metric: str
    training_texts: int
    exact_queries: int
    near_queries: int
    exact_documents: int
    near_documents: int
    exact_pairs: int
    clean_queries: int
    full: Estimate | None
    clean: Estimate | None
    examples: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    unseen_sources: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Speed:
    """How large and how fast a model is, measured beside the others in one run.

    Attributes:
        model: The model's short name.
        texts_per_second: Median over the rounds.
        low: The slowest round.
        high: The fastest.
        texts: What was encoded, in words.
        megabytes: Size of the model's files on disk, in 10^6 bytes.
        dimension: Of its vectors.
        machine: Processor and number of cores.
    """

    model: str
    texts_per_second: float
    low: float
    high: float
    texts: str
    megabytes: float
    dimension: int
    machine: str


Measured = ContrastScore | Discrimination | Robustness | Contamination | Speed
_M = TypeVar("_M", ContrastScore, Discrimination, Robustness, Contamination, Speed)


def measured_path(folder: str | Path, measured: Measured) -> Path:
    """Where it is kept: ``MODEL.KIND.json``, or ``MODEL.KIND.SUBJECT.json``."""
    kind = type(measured)
    subject = getattr(measured, "suite", getattr(measured, "half", ""))
    parts = [measured.model, _KINDS[kind], *([subject] if subject else [])]
    return Path(folder) / (".".join(re.sub(r"[^\w-]+", "_", part) for part in parts) + ".json")


def write_measured(measured: Measured, folder: str | Path) -> Path:
    """Writes it to its ``measured_path`` and returns that; one already there is replaced."""
    path = measured_path(folder, measured)
    with replacing(path) as temporary:
        content = {"kind": _KINDS[type(measured)], **asdict(measured)}
        temporary.write_text(json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n")
    return path


def read_measured(folder: str | Path, kind: type[_M]) -> tuple[_M, ...]:
    """All measurements of a kind in a folder, in the order of their file names; often none.

    Raises:
        ModernPubMedError: One of them is not readable.
    """
    found = []
    for file in sorted(Path(folder).glob(f"*.{_KINDS[kind]}*.json")):
        try:
            content = json.loads(file.read_text("utf-8"))
            if content.pop("kind") != _KINDS[kind]:
                continue
            value = _typed(content, kind)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ModernPubMedError(
                f"no readable measurement ({error})", file=file, remedy="measure again"
            ) from error
        found.append(value)
    return tuple(found)


_KINDS: Mapping[type, str] = {
    ContrastScore: "contrast",
    Discrimination: "discrimination",
    Robustness: "robustness",
    Contamination: "contamination",
    Speed: "speed",
}


def _typed(value: Any, hint: Any) -> Any:
    """What JSON holds as what the annotation says: dataclasses, tuples and mappings of them."""
    if hint in _DATACLASSES:
        hints = get_type_hints(hint)
        return hint(**{name: _typed(part, hints[name]) for name, part in value.items()})
    if get_origin(hint) is tuple:
        return tuple(_typed(part, get_args(hint)[0]) for part in value)
    if get_origin(hint) is not None and issubclass(get_origin(hint), Mapping):
        return {key: _typed(part, get_args(hint)[1]) for key, part in value.items()}
    if NoneType in get_args(hint):
        return None if value is None else _typed(value, get_args(hint)[0])
    return value


_DATACLASSES = frozenset((*_KINDS, Estimate, ContrastClass, Condition))

"""Robustness: each condition against the same queries unchanged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation.evaluate import evaluate
from modernpubmed.evaluation.robustness import measure_robustness, publication_years
from modernpubmed.suites import Suite


@pytest.fixture
def farm() -> Suite:
    """Twenty queries; the word that finds the document stands last in it."""
    numbers = range(20)
    rare = [f"zq{chr(97 + n)}word" for n in numbers]
    return Suite(
        name="farm",
        query_ids=tuple(f"q{n}" for n in numbers),
        queries=tuple(f"tumor {rare[n]}" if n < 8 else rare[n] for n in numbers),
        corpus_ids=tuple(f"d{n}" for n in numbers),
        corpus=tuple(" ".join(["common"] * (n + 1) + [rare[n]]) for n in numbers),
        qrels={f"q{n}": {f"d{n}": 1} for n in numbers},
    )


def test_a_perturbation_is_compared_on_the_queries_it_changed(farm: Suite, bag: type) -> None:
    encoder = bag("bag", dimension=4096, longest=99)
    found = measure_robustness(
        encoder,
        farm,
        perturbations={
            "British": lambda text: text.replace("tumor", "tumour"),
            "lost": lambda text: "nothing" if text.startswith("tumor") else text,
            "nothing": lambda text: text,
        },
    )
    assert found.clean.value == 1.0
    british, lost, *strata = found.conditions
    assert (british.name, british.kind, british.queries, british.changed) == (
        "British",
        "perturbation",
        8,
        8,
    )
    assert british.difference is not None
    assert british.difference.value == 0.0
    assert lost.difference is not None
    assert lost.difference.value == pytest.approx(lost.score.value - 1.0)
    assert lost.score.value < 0.5
    assert {condition.kind for condition in strata} == {"stratum"}


def test_cutting_the_documents_counts_what_was_cut(farm: Suite, bag: type) -> None:
    found = measure_robustness(
        bag("bag", dimension=4096, longest=99),
        farm,
        perturbations={},
        cut_at=lambda tokens: bag("bag", dimension=4096, longest=tokens),
        cuts=(10, 50),
    )
    ten, fifty, *_ = found.conditions
    assert ten.name == "documents cut at 10 tokens"
    assert ten.changed == 11  # those of more than ten words
    assert ten.difference is not None
    assert ten.difference.value < -0.3
    assert fifty.changed == 0
    assert fifty.difference is not None
    assert fifty.difference.value == 0.0


def test_strata_split_the_queries_and_their_scores_are_those_of_the_whole(
    farm: Suite, bag: type
) -> None:
    encoder = bag("bag", dimension=64, longest=12)
    years = {f"d{n}": 2000 + n for n in range(20)}
    found = measure_robustness(encoder, farm, perturbations={}, years=years)
    values = np.array(evaluate(encoder, farm).per_query["nDCG@10"])
    lengths = [c for c in found.conditions if c.name.startswith("relevant document of")]
    assert [c.queries for c in lengths] == [5, 5, 5, 5]
    assert sum(c.score.value * c.queries for c in lengths) / 20 == pytest.approx(values.mean())
    by_year = [c for c in found.conditions if c.name.startswith("published")]
    assert [c.name for c in by_year] == [
        "published 2000–2004",
        "published 2005–2009",
        "published 2010–2014",
        "published 2015–2019",
    ]
    # Of eight with a year no quarter holds five.
    few = measure_robustness(
        encoder, farm, perturbations={}, years={f"d{n}": 2000 + n for n in range(8)}
    )
    assert not [c for c in few.conditions if c.name.startswith("published")]


def test_an_unknown_metric_is_refused(farm: Suite, bag: type) -> None:
    with pytest.raises(ModernPubMedError, match="no metric 'F1'"):
        measure_robustness(bag(), farm, metric="F1")


def test_years_of_a_beir_folder_and_of_pairs(tmp_path: Path) -> None:
    lines = [
        {"_id": "a", "text": "x", "year": 2001},
        {"_id": "b", "text": "x", "metadata": {"year": 2002}},
        {"_id": "c", "text": "x"},
    ]
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert publication_years(tmp_path) == {"a": 2001, "b": 2002}
    corpus.write_text(json.dumps({"_id": "a", "text": "x", "year": "MMI"}) + "\n")
    with pytest.raises(ModernPubMedError, match=r"corpus\.jsonl.*line 1"):
        publication_years(tmp_path)
    pairs = tmp_path / "dev.parquet"
    pq.write_table(pa.table({"year": pa.array([1999, None, 2003], pa.int32())}), pairs)
    assert publication_years(pairs) == {"1": 1999, "3": 2003}
    pq.write_table(pa.table({"anchor": ["a"]}), pairs)
    with pytest.raises(ModernPubMedError, match="no years to be read"):
        publication_years(pairs)

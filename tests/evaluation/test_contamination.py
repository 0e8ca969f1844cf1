"""What of a suite was seen in training: planted overlaps are found, everything else is not."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation.contamination import measure_contamination
from modernpubmed.evaluation.evaluate import evaluate
from modernpubmed.manifest import Manifest, sha256
from modernpubmed.suites import Suite

ABSTRACT = (
    "Forty dairy farmers with a cough of more than eight weeks were asked about their work, their "
    "animals and the dust in their barns, and breathed into a spirometer twice a year."
)
# One word of thirty-two is another: near, not the same.
NEAR_ABSTRACT = ABSTRACT.replace("spirometer", "peak-flow meter")
OTHER = (
    "Iron tablets taken every other day raised haemoglobin as much as daily ones in women who give "
    "blood, and they were sick less often."
)


@pytest.fixture
def seen_suite() -> Suite:
    return Suite(
        name="seen",
        query_ids=("exact", "near", "answer", "clean"),
        queries=(
            "Cough in dairy farmers!",
            "Lung function of farmers who keep cows in closed barns over one winter",
            "Who coughs on a farm?",
            "Iron every other day",
        ),
        corpus_ids=("d-exact", "d-near", "d-clean"),
        corpus=(ABSTRACT.upper(), NEAR_ABSTRACT + " It rained.", OTHER),
        qrels={
            "exact": {"d-exact": 1},
            "near": {"d-clean": 1},
            "answer": {"d-near": 1},
            "clean": {"d-clean": 1, "d-near": 0},
        },
    )


def a_model(folder: Path, *, rows: list[dict[str, object]] | None = None) -> tuple[Path, Path]:
    """A folder with the manifest of training on these pairs, and the pairs."""
    pairs = folder / "pairs" / "train.parquet"
    pairs.parent.mkdir(parents=True)
    rows = rows or [
        {"anchor": "cough in dairy farmers", "positive": ABSTRACT},
        {
            "anchor": "Lung function of farmers who keep cows in closed barns over one Winter.",
            "positive": "x",
        },
        {
            "anchor": "lung function of farmers who keep cows in closed barns over two winter",
            "positive": "x",
        },
        {"anchor": "Something else", "positive": ABSTRACT.replace("spirometer", "flow gauge")},
    ]
    pq.write_table(pa.Table.from_pylist(rows), pairs)
    model = folder / "model"
    model.mkdir()
    Manifest("model", inputs={"train_pairs": sha256(pairs), "base_weights": "b"}).write(model)
    return model, pairs


def test_planted_overlaps_are_found_and_nothing_else(tmp_path: Path, seen_suite: Suite) -> None:
    model, pairs = a_model(tmp_path)
    (found,) = measure_contamination(model, [pairs], [seen_suite])
    assert (found.exact_queries, found.near_queries) == (2, 0)
    assert (found.exact_documents, found.near_documents) == (1, 1)
    assert found.exact_pairs == 1  # "cough in dairy farmers" with its abstract
    assert found.clean_queries == 1
    assert found.training_texts == 7
    assert found.sources == {"train_pairs": sha256(pairs)}
    assert not found.unseen_sources
    assert any(
        line.startswith("query exact “Cough in dairy farmers!” exact") for line in found.examples
    )


def test_a_near_query_is_near_not_exact(tmp_path: Path, seen_suite: Suite) -> None:
    title = "Lung function of farmers who keep cows in closed barns over one wintry season or two"
    suite = replace(seen_suite, queries=("a b", title, "c d", "e f"))
    model, pairs = a_model(
        tmp_path, rows=[{"anchor": f"Report: {title}", "positive": "nothing of the kind"}]
    )
    (found,) = measure_contamination(model, [pairs], [suite])
    assert (found.exact_queries, found.near_queries, found.exact_pairs) == (0, 1, 0)


def test_scores_on_the_clean_part(tmp_path: Path, seen_suite: Suite, bag: type) -> None:
    model, pairs = a_model(tmp_path)
    result = evaluate(bag("model", dimension=512, longest=99), seen_suite)
    (found,) = measure_contamination(model, [pairs], [seen_suite], results=[result])
    values = result.per_query["nDCG@10"]
    assert found.full is not None
    assert found.clean is not None
    assert found.full.value == pytest.approx(sum(values) / 4)
    assert found.clean.value == pytest.approx(values[3])
    other = replace(result, suite_version="0" * 64)
    with pytest.raises(ModernPubMedError, match="another version of this suite"):
        measure_contamination(model, [pairs], [seen_suite], results=[other])


def test_negatives_count_as_seen_but_make_no_pair(tmp_path: Path, seen_suite: Suite) -> None:
    model, pairs = a_model(
        tmp_path,
        rows=[{"anchor": "cough in dairy farmers", "positive": "x", "negatives": [ABSTRACT]}],
    )
    (found,) = measure_contamination(model, [pairs], [seen_suite])
    assert (found.exact_queries, found.exact_documents, found.exact_pairs) == (1, 1, 0)


def test_training_data_that_is_not_at_hand_is_named(tmp_path: Path, seen_suite: Suite) -> None:
    model, pairs = a_model(tmp_path)
    Manifest(
        "model", inputs={"train_pairs/abstracts": sha256(pairs), "train_pairs/names": "f00"}
    ).write(model)
    (found,) = measure_contamination(model, [pairs.parent], [seen_suite])
    assert found.unseen_sources == {"train_pairs/names": "f00"}


def test_what_is_refused(tmp_path: Path, seen_suite: Suite) -> None:
    model, pairs = a_model(tmp_path)
    other = tmp_path / "other.parquet"
    pq.write_table(pa.Table.from_pylist([{"anchor": "a", "positive": "b"}]), other)
    with pytest.raises(ModernPubMedError, match=r"model was not trained on these pairs"):
        measure_contamination(model, [pairs, other], [seen_suite])
    with pytest.raises(ModernPubMedError, match="no pairs here"):
        measure_contamination(model, [tmp_path / "nowhere"], [seen_suite])
    with pytest.raises(ModernPubMedError, match="no pairs to compare with"):
        measure_contamination(model, [], [seen_suite])
    shutil.copy(pairs, tmp_path / "kept.parquet")
    for content, cause in ((b"no parquet", "cannot be read as pairs"),):
        pairs.write_bytes(content)
        Manifest("model", inputs={"train_pairs": sha256(pairs)}).write(model)
        with pytest.raises(ModernPubMedError, match=cause):
            measure_contamination(model, [pairs], [seen_suite])
    pq.write_table(pa.Table.from_pylist([{"title": "a"}]), pairs)
    Manifest("model", inputs={"train_pairs": sha256(pairs)}).write(model)
    with pytest.raises(ModernPubMedError, match="no columns anchor and positive"):
        measure_contamination(model, [pairs], [seen_suite])
    Manifest("pairs", inputs={"a": "b"}).write(model)
    with pytest.raises(ModernPubMedError, match="names no training pairs"):
        measure_contamination(model, [pairs], [seen_suite])

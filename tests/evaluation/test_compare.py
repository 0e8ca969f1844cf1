from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation import (
    compare,
    compare_results,
    evaluate_bm25,
    read_result,
    read_similarity,
    render_markdown,
    render_text,
)
from modernpubmed.evaluation.compare import Improvement
from modernpubmed.evaluation.metrics import METRICS
from modernpubmed.suites import SentencePairs, Suite


def with_metrics(suite: Suite, model: str, value: float):
    result = evaluate_bm25(suite)
    return replace(result, model=model, metrics=dict.fromkeys(METRICS, value))


def test_improvement_of_the_first_over_each_other(suite) -> None:
    results = [with_metrics(suite, m, v) for m, v in (("ours", 0.9), ("a", 0.75), ("none", 0.0))]
    (table,) = compare_results(results).tables
    assert table.models == ("ours", "a", "none")
    assert [row.metric for row in table.rows] == list(METRICS)
    assert table.rows[0].values == (0.9, 0.75, 0.0)
    over_a, over_none = table.rows[0].improvements
    assert over_a.absolute == pytest.approx(0.15)
    assert over_a.percent == pytest.approx(20.0)
    assert over_none == Improvement(0.9, None)
    assert render_markdown(compare_results(results)).splitlines()[:5] == [
        "### tiny",
        "",
        "| Metric | ours | a | improvement | none | improvement |",
        "| :-- | --: | --: | --: | --: | --: |",
        "| Accuracy@1 | 0.9000 | 0.7500 | +0.1500 (+20.0 %) | 0.0000 | +0.9000 |",
    ]


def test_compare_writes_and_renders(bag, suite, tmp_path: Path) -> None:
    other = replace(suite, name="other", dropped={})
    pairs = SentencePairs("sts", ("a b", "a"), ("a b", "c"), (1.0, 0.0))
    models = [bag("ours", dimension=512), bag("pipe|theirs", dimension=16)]
    found = compare(models, [suite, other], pairs=[pairs], out=tmp_path)
    assert [(result.suite, result.model) for result in found.results] == [
        (name, model) for name in ("tiny", "other") for model in ("ours", "pipe|theirs", "BM25")
    ]
    assert tuple(read_result(file) for file in sorted(tmp_path.glob("ours__*.json"))) == (
        found.results[3],
        found.results[0],
    )
    assert len(list(tmp_path.glob("*.json"))) == 7
    assert read_similarity(tmp_path) == (found.examples, found.correlations)
    text = render_text(found)
    lines = text.splitlines()
    assert lines[0] == "tiny"
    assert lines[1].split() == [
        "Metric",
        "ours",
        "pipe|theirs",
        "improvement",
        "BM25",
        "improvement",
    ]
    assert "(3 queries, 4 documents)" in lines
    assert "(2 left out: query without a relevant document)" in lines
    assert "(ours cut 1 queries and 0 documents to its length)" in lines
    assert "non-medical: “diabetes type 2” – “asyncio.run()”" in text
    for metric in METRICS:
        assert text.count(f"\n{metric} ") == 2
    markdown = render_markdown(found)
    assert "| sts | ours | 2 | 1.0000 | 1.0000 | 0 |" in markdown
    assert "pipe\\|theirs" in markdown
    # Every line of a table has the same number of columns.
    for block in markdown.split("### ")[1:]:
        bars = {
            line.replace("\\|", "").count("|") for line in block.splitlines() if line[:1] == "|"
        }
        assert len(bars) == 1


def test_what_cannot_be_compared(bag, suite) -> None:
    with pytest.raises(ModernPubMedError, match="no encoder to compare"):
        compare([], [suite])
    with pytest.raises(ModernPubMedError, match="nothing to compare on"):
        compare([bag()], [])
    with pytest.raises(ModernPubMedError, match="more than one encoder 'bag'"):
        compare([bag(), bag()], [suite])
    with pytest.raises(ModernPubMedError, match="more than one suite 'tiny'"):
        compare([bag()], [suite, suite])
    one = evaluate_bm25(suite)
    with pytest.raises(ModernPubMedError, match="more than one result on tiny of 'BM25'"):
        compare_results([one, one])
    with pytest.raises(ModernPubMedError, match="tiny: a and BM25 were not measured on the same"):
        compare_results([replace(one, model="a", documents=5), one])


def test_a_stopped_comparison_goes_on(bag, suite, tmp_path: Path) -> None:
    suite = replace(suite, sources={"corpus.jsonl": "ab"})
    first = compare([bag("ours")], [suite], out=tmp_path)
    again = bag("ours")
    assert compare([again], [suite], out=tmp_path).results == first.results
    assert again.calls == [4]  # the similarity examples, nothing of the suite


@pytest.mark.parametrize("change", ["model", "suite", "version"])
def test_what_has_changed_is_measured_again(
    bag, suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    suite = replace(suite, sources={"corpus.jsonl": "ab"})
    compare([bag("ours")], [suite], out=tmp_path)
    again = bag("ours")
    if change == "model":
        again.fingerprint = "1" * 64
    elif change == "suite":
        suite = replace(suite, sources={"corpus.jsonl": "cd"})
    else:
        # By sys.modules: the package's attribute of that name is the function.
        module = sys.modules["modernpubmed.evaluation.compare"]
        monkeypatch.setattr(module, "code_version", lambda: "9")
    compare([again], [suite], out=tmp_path)
    assert len(again.calls) > 1

from __future__ import annotations

from dataclasses import replace

import pytest

from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation import compare
from modernpubmed.evaluation.comparison import (
    Answer,
    Average,
    Comparison,
    Difference,
    Document,
    HurtQuery,
    Improvement,
    Method,
    Model,
    Row,
    SuiteTable,
)
from modernpubmed.evaluation.measured import Estimate
from modernpubmed.evaluation.metrics import METRICS, TREC_METRICS
from modernpubmed.evaluation.rendering import render_markdown, render_text
from modernpubmed.evaluation.significance import PairedTest
from modernpubmed.suites import SentencePairs


def table(suite: str, convention: str, score: float, holm: tuple[float, float]) -> SuiteTable:
    test = PairedTest(Estimate(score - 0.5, score - 0.6, score - 0.4), 0.001, 0.002, 1200, 30, 4)
    row = Row(
        "nDCG@10",
        (score, 0.5),
        (Improvement(score - 0.5, 200 * (score - 0.5)),),
        (Estimate(score, score - 0.05, score + 0.05), Estimate(0.5, 0.45, 0.55)),
        (Difference("a|b", test, *holm),),
    )
    notes = ("9 queries, 9 documents", "ours: query prompt “find: ”")
    return SuiteTable(suite, ("ours", "a|b"), (row,), notes, convention, "0" * 64, 9, 9)


def one_query(identifier: str, ours: tuple[Document, ...] | None, first: int | None) -> HurtQuery:
    wanted = Document("d9", "the right *one*", 2)
    answers = (
        Answer("ours", 0.0, ours, first),
        Answer("a|b", 0.75, (replace(wanted, score=0.9),), 1),
        Answer("elsewhere", 1.0, (), None),
    )
    query = f"what is\n{identifier}" + " and more" * 20
    return HurtQuery("s", "a|b", identifier, query, 0.75, (wanted,), 3, answers)


@pytest.fixture
def comparison() -> Comparison:
    wrong = Document("d1", "the <wrong> one", 0, 0.5)
    names = ("ours", "a|b", "BM25")
    averages = (
        Average("ours", ("s", "t"), Estimate(0.7, 0.65, 0.75), None),
        Average("a|b", ("s", "t"), Estimate(0.5, 0.45, 0.55), Estimate(0.2, 0.15, 0.25)),
        Average("BM25", ("t",), Estimate(0.1, 0.0, 0.2), Estimate(0.6, 0.5, 0.7)),
    )
    return Comparison(
        tables=(
            table("s", "sentence-transformers", 0.6, (0.0004, 0.0123)),
            table("t", "sentence-transformers", 0.8, (0.01, 0.06)),
        ),
        results=(),
        examples=(),
        correlations=(),
        trec_tables=(table("s", "trec_eval", 0.4, (0.5, 0.6)),),
        averages=averages,
        trec_averages=averages,
        hurt=(
            one_query("q1", (wrong,), 12),
            one_query("q2", None, None),
            one_query("q3", (), None),
            one_query("q4", (wrong,), None),
        ),
        models=tuple(Model(name, "", {}, 0) for name in names),
        method=Method("nDCG@10", 4, 10_000, 0),
    )


def test_the_summary_comes_first(comparison: Comparison):
    blocks = render_markdown(comparison).split("### ")
    assert blocks[1].splitlines() == [
        "Summary: nDCG@10 (sentence-transformers ≥ 6)",
        "",
        "| Suite | ours | a\\|b | BM25 |",
        "| :-- | --: | --: | --: |",
        "| s | 0.6000 [0.550, 0.650] | 0.5000 [0.450, 0.550] | – |",
        "| t | 0.8000 [0.750, 0.850] | 0.5000 [0.450, 0.550] | – |",
        "| mean of suites | 0.7000 [0.650, 0.750] | 0.5000 [0.450, 0.550] | – |",
        "",
        "in brackets: 95 % interval by bootstrap over queries.",
        "",
        "the mean weighs each suite the same and is given where all are there.",
        "",
    ]
    # The star only where both tests agree; the randomisation test stands first.
    assert blocks[2].splitlines()[:9] == [
        "ours against the others: nDCG@10 (sentence-transformers ≥ 6)",
        "",
        "| Suite | Against | Ahead by | 95 % interval | Holm p | Won/tied/lost |",
        "| :-- | --: | --: | --: | --: | --: |",
        "| s | a\\|b | +0.1000 | [+0.000, +0.200] | 0.012 / <0.001 * | 1,200/30/4 |",
        "| t | a\\|b | +0.3000 | [+0.200, +0.400] | 0.060 / 0.010 | 1,200/30/4 |",
        "| mean of 2 suites | a\\|b | +0.2000 | [+0.150, +0.250] |  |  |",
        "| mean of 1 suites | BM25 | +0.6000 | [+0.500, +0.700] |  |  |",
        "",
    ]
    assert "corrected for the 4 comparisons of ours with another model" in blocks[2]
    assert "10,000 draws, seed 0;" in blocks[2]
    assert blocks[3].splitlines() == [
        "s (sentence-transformers ≥ 6)",
        "",
        "| Metric | ours | a\\|b | improvement |",
        "| :-- | --: | --: | --: |",
        "| nDCG@10 | 0.6000 | 0.5000 | +0.1000 (+20.0 %) |",
        "",
        "9 queries, 9 documents.",
        "",
        "ours: query prompt “find: ”.",
        "",
    ]


def test_trec_eval_by_name(comparison: Comparison):
    for render in (render_text, render_markdown):
        text = render(comparison, convention="trec_eval")
        assert "Summary: nDCG@10 (trec_eval)" in text
        assert "s (trec_eval)" in text
        assert "0.4000" in text
        assert "0.8000" not in text
        with pytest.raises(ModernPubMedError, match="no such convention: 'trec'"):
            render(comparison, convention="trec")


def test_the_worst_queries_as_text(comparison: Comparison):
    lines = render_text(comparison).split("\n\n")[-1].splitlines()
    assert lines[:2] == [
        "Where ours loses most (nDCG@10, sentence-transformers ≥ 6; up to 3 queries a suite and "
        "rival)",
        "s, against a|b:",
    ]
    text = " ".join(" ".join(lines).split())
    assert "−0.7500 q1 “what is q1 and more and more" in text
    assert "ours: d1 “the <wrong> one”; the first relevant one at rank 12 a|b: d9" in text
    assert "a|b: d9 “the right *one*”, relevant relevant: d9 “the right *one*” and 2 more" in text
    assert "ours: no run file, so nothing to show" in text
    assert "ours: found nothing" in text
    # Three a suite and rival; the third model's answer stays in comparison.json.
    assert "q4" not in text
    assert "elsewhere" not in text
    assert max(map(len, lines)) <= 96


def test_the_worst_queries_as_markdown(comparison: Comparison):
    text = render_markdown(comparison).split("### ")[-1]
    assert "\ns, against a|b:\n\n- −0.7500  q1 “what is q1" in text
    assert "  - ours: d1 “the \\<wrong> one”; the first" in text
    assert "  - relevant: d9 “the right \\*one\\*” and 2 more\n" in text
    (query,) = (line for line in text.splitlines() if " q1 " in line)
    assert query.endswith("…”")


def test_one_suite_has_no_mean_and_one_model_no_rival(comparison: Comparison):
    text = render_text(replace(comparison, tables=comparison.tables[:1]))
    assert "mean of" not in text
    alone = replace(
        comparison,
        models=comparison.models[:1],
        method=replace(comparison.method, family=0),
        averages=comparison.averages[:1],
        hurt=(),
    )
    assert "against the others" not in render_text(alone)


def test_what_compare_gave_is_rendered(bag, suite):
    other = replace(suite, name="other", dropped={})
    pairs = SentencePairs("sts", ("a b", "a"), ("a b", "c"), (1.0, 0.0))
    models = [bag("ours", dimension=512), bag("pipe|theirs", dimension=3)]
    found = compare(models, [suite, other], pairs=[pairs], draws=100)
    text = render_text(found)
    lines = text.splitlines()
    assert lines[0] == "Summary: nDCG@10 (sentence-transformers ≥ 6)"
    start = lines.index("tiny (sentence-transformers ≥ 6)")
    assert lines[start + 1].split() == [
        *("Metric", "ours", "pipe|theirs", "improvement", "BM25", "improvement")
    ]
    assert "(3 queries, 4 documents)" in lines
    assert "(2 left out: query without a relevant document)" in lines
    assert "(ours cut 1 queries and 0 documents to its length)" in lines
    assert "non-medical: “diabetes type 2” – “asyncio.run()”" in text
    for metric in METRICS:
        assert text.count(f"\n{metric} ") == 2
    trec = render_text(found, convention="trec_eval")
    for metric in TREC_METRICS:
        assert trec.count(f"\n{metric} ") == 2
    markdown = render_markdown(found)
    assert "| sts | ours | 2 | 1.0000 [1.000, 1.000] | 1.0000 [1.000, 1.000] | 0 |" in markdown
    assert "pipe\\|theirs" in markdown
    # Every line of a table has the same number of columns.
    for block in markdown.split("### ")[1:]:
        bars = {
            line.replace("\\|", "").count("|") for line in block.splitlines() if line[:1] == "|"
        }
        assert len(bars) <= 1
    nothing = compare([bag()], [], pairs=[pairs])
    assert render_text(nothing).startswith("Similarity examples (cosine)\n")

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation import (
    compare,
    compare_results,
    evaluate_bm25,
    read_result,
    read_similarity,
)
from modernpubmed.evaluation.comparison import (
    Difference,
    Document,
    Improvement,
    Model,
    read_comparison,
    write_comparison,
)
from modernpubmed.evaluation.evaluate import write_result
from modernpubmed.evaluation.metrics import METRICS, TREC_METRICS
from modernpubmed.evaluation.runs import read_run
from modernpubmed.evaluation.significance import (
    bootstrap_mean,
    holm,
    mean_over_suites,
    paired_test,
)
from modernpubmed.suites import SentencePairs, Suite, suite_checksum


def scored(model: str, values, suite: str = "s", **changes):
    """A result with these scores of its queries on every metric, in both conventions."""
    one = Suite(
        "tiny", ("q",), ("fever",), ("a",), ("Fever.",), {"q": {"a": 1}}, sources={"corpus": "0"}
    )
    values = tuple(map(float, values))
    mean = sum(values) / len(values)
    return replace(
        evaluate_bm25(one),
        model=model,
        suite=suite,
        query_ids=tuple(f"q{number}" for number in range(len(values))),
        metrics=dict.fromkeys(METRICS, mean),
        per_query=dict.fromkeys(METRICS, values),
        trec_metrics=dict.fromkeys(TREC_METRICS, mean),
        trec_per_query=dict.fromkeys(TREC_METRICS, values),
        **changes,
    )


def skewed(seed: int, better: float, queries: int = 80) -> np.ndarray:
    rng = np.random.default_rng([seed, 1])
    rank = np.floor(np.exp(rng.normal(1 - better, 1, queries))) + 1
    return np.where(rank <= 10, 1 / np.log2(rank + 1), 0.0)


def test_improvement_of_the_first_over_each_other():
    results = [scored(m, [v, v]) for m, v in (("ours", 0.9), ("a", 0.75), ("none", 0.0))]
    (table,) = compare_results(results, draws=50).tables
    assert table.models == ("ours", "a", "none")
    assert [row.metric for row in table.rows] == list(METRICS)
    assert table.rows[0].values == (0.9, 0.75, 0.0)
    over_a, over_none = table.rows[0].improvements
    assert over_a.absolute == pytest.approx(0.15)
    assert over_a.percent == pytest.approx(20.0)
    assert over_none == Improvement(0.9, None)


def test_intervals_tests_and_holm_over_all_suites_and_rivals():
    scores = {
        (suite, model): skewed(number, better)
        for number, (suite, model, better) in enumerate(
            (suite, model, better)
            for suite in ("one", "two")
            for model, better in (("ours", 0.6), ("near", 0.5), ("far", -0.5))
        )
    }
    results = [scored(model, values, suite) for (suite, model), values in scores.items()]
    found = compare_results(results, draws=400, seed=3)
    expected = []
    for table in found.tables:
        assert (table.convention, table.queries) == ("sentence-transformers", 80)
        ids = results[0].query_ids
        for row in table.rows:
            assert row.intervals == tuple(
                bootstrap_mean(scores[table.suite, model], draws=400, seed=3)
                for model in table.models
            )
            for difference, rival in zip(row.differences, ("near", "far"), strict=True):
                both = [
                    dict(zip(ids, scores[table.suite, m].tolist(), strict=True))
                    for m in ("ours", rival)
                ]
                assert difference.rival == rival
                assert difference.test == paired_test(*both, draws=400, seed=3)
                if row.metric == "nDCG@10":
                    expected.append(difference.test)
                else:
                    assert difference.bootstrap_holm is difference.randomisation_holm is None
    assert found.method.family == len(expected) == 4
    main = [
        difference
        for table in found.tables
        for row in table.rows
        if row.metric == "nDCG@10"
        for difference in row.differences
    ]
    assert [d.bootstrap_holm for d in main] == list(holm([t.bootstrap_p for t in expected]))
    assert [d.randomisation_holm for d in main] == list(holm([t.randomisation_p for t in expected]))
    assert main[1].randomisation_holm < 0.05 < main[0].randomisation_holm
    # trec_eval's tables have a family of their own, here of the same figures.
    assert [table.convention for table in found.trec_tables] == ["trec_eval"] * 2
    assert [row.metric for row in found.trec_tables[0].rows] == list(TREC_METRICS)
    assert [
        difference
        for table in found.trec_tables
        for row in table.rows
        if row.metric == "nDCG@10"
        for difference in row.differences
    ] == main


def test_the_mean_over_suites():
    ours = {"one": skewed(1, 0.5, 40), "two": skewed(2, 0.5, 90)}
    rival = {"one": skewed(3, 0.1, 40), "two": skewed(4, 0.1, 90)}
    results = [scored("ours", ours["one"], "one"), scored("rival", rival["one"], "one")]
    results += [scored("ours", ours["two"], "two"), scored("rival", rival["two"], "two")]
    results.append(scored("BM25", skewed(5, 0.0, 90), "two"))
    first, second, third = compare_results(results, draws=300).averages
    assert (first.model, first.suites, first.difference) == ("ours", ("one", "two"), None)
    assert first.score == mean_over_suites(list(ours.values()), draws=300)
    assert second.difference == mean_over_suites(
        [ours[suite] - rival[suite] for suite in ours], draws=300
    )
    assert second.difference.value == pytest.approx(first.score.value - second.score.value)
    assert (third.model, third.suites) == ("BM25", ("two",))


def test_compare_keeps_what_it_measured(bag, suite, tmp_path: Path):
    other = replace(suite, name="other", dropped={})
    pairs = SentencePairs("sts", ("a b", "a"), ("a b", "c"), (1.0, 0.0))
    models = [bag("ours", dimension=512), bag("pipe|theirs", dimension=16)]
    found = compare(models, [suite, other], pairs=[pairs], out=tmp_path, draws=200)
    assert [(result.suite, result.model) for result in found.results] == [
        (name, model) for name in ("tiny", "other") for model in ("ours", "pipe|theirs", "BM25")
    ]
    assert tuple(read_result(file) for file in sorted(tmp_path.glob("ours__*.json"))) == (
        found.results[3],
        found.results[0],
    )
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(
        [
            *(
                f"{model}__{name}.{kind}"
                for model in ("ours", "pipe_theirs", "BM25")
                for name in ("tiny", "other")
                for kind in ("json", "run.gz")
            ),
            "similarity.json",
            "comparison.json",
        ]
    )
    assert read_similarity(tmp_path) == (found.examples, found.correlations)
    assert read_comparison(tmp_path) == found
    assert [model.name for model in found.models] == ["ours", "pipe|theirs", "BM25"]
    assert found.models[0] == Model("ours", "0" * 64, {}, 512)
    assert found.models[2] == Model("BM25", "", {}, 0)
    table = found.tables[0]
    assert (table.queries, table.documents) == (3, 4)
    assert table.version == suite_checksum(suite)
    assert table.notes == (
        "3 queries, 4 documents",
        "2 left out: query without a relevant document",
        "ours cut 1 queries and 0 documents to its length",
        "pipe|theirs cut 1 queries and 0 documents to its length",
    )


def test_further_metrics_another_main_metric_and_vectors(bag, suite, tmp_path: Path):
    found = compare(
        [bag("ours")],
        [suite],
        metric="mrr@5",
        metrics=["Recall@2"],
        draws=100,
        seed=9,
        vectors=tmp_path / "vectors",
    )
    names = [row.metric for row in found.tables[0].rows]
    assert names == [*METRICS, "MRR@5", "Recall@2"]
    assert [row.metric for row in found.trec_tables[0].rows] == [
        *TREC_METRICS,
        "MRR@5",
        "Recall@2",
    ]
    (main,) = (row for row in found.tables[0].rows if row.metric == "MRR@5")
    assert isinstance(main.differences[0], Difference)
    assert main.differences[0].randomisation_holm is not None
    assert (found.method.metric, found.method.draws, found.method.seed) == ("MRR@5", 100, 9)
    again = bag("ours")
    compare([again], [suite], draws=100, vectors=tmp_path / "vectors")
    assert again.calls == [4]  # the similarity examples; the suite's vectors were kept


def test_what_cannot_be_compared(bag, suite):
    with pytest.raises(ModernPubMedError, match="no encoder to compare"):
        compare([], [suite])
    with pytest.raises(ModernPubMedError, match="nothing to compare on"):
        compare([bag()], [])
    with pytest.raises(ModernPubMedError, match="more than one encoder 'bag'"):
        compare([bag(), bag()], [suite])
    with pytest.raises(ModernPubMedError, match="more than one suite 'tiny'"):
        compare([bag()], [suite, suite])
    one = scored("BM25", [0.1, 0.2])
    with pytest.raises(ModernPubMedError, match="more than one result on s of 'BM25'"):
        compare_results([one, one])
    with pytest.raises(ModernPubMedError, match="s: a and BM25 were not measured on the same"):
        compare_results([replace(one, model="a", documents=5), one])
    with pytest.raises(ModernPubMedError, match=r"t: ours has no result on it"):
        compare_results([scored("ours", [0.1, 0.2]), one, replace(one, suite="t")])
    with pytest.raises(ModernPubMedError, match="no such metric: 'nDCG'"):
        compare_results([one], metric="nDCG")
    with pytest.raises(ModernPubMedError, match=r"s: the result of BM25 has no nDCG@7"):
        compare_results([one], metric="ndcg@7")


@pytest.mark.parametrize("which", ["out", "vectors"])
def test_a_file_in_place_of_a_folder_is_refused_before_the_work(bag, suite, tmp_path, which):
    file = tmp_path / "letter.txt"
    file.write_text("Dear")
    encoder = bag()
    with pytest.raises(ModernPubMedError, match=r"letter\.txt: exists and is not a folder"):
        compare([encoder], [suite], **{which: file})
    with pytest.raises(ModernPubMedError, match="draws is 0"):
        compare([encoder], [suite], draws=0)
    with pytest.raises(ModernPubMedError, match="no such metric"):
        compare([encoder], [suite], metrics=["nDCG@ten"])
    assert encoder.calls == []
    assert file.read_text() == "Dear"


def test_two_versions_of_a_suite_are_refused_with_both_checksums():
    old, new = scored("a", [0.5], suite_version="1" * 64), scored("b", [0.5])
    with pytest.raises(ModernPubMedError) as refused:
        compare_results([old, new])
    text = str(refused.value)
    assert text.startswith("s: a and b were measured on different versions of it, ")
    assert "1" * 64 in text
    assert new.suite_version in text


@pytest.mark.parametrize("change", ["fingerprint", "prompts"])
def test_two_models_of_one_name_are_refused(bag, suite, change: str):
    first = compare([bag("ours")], [suite], draws=50).results
    other = bag("ours")
    if change == "fingerprint":
        other.fingerprint = "1" * 64
    else:
        other.prompts = {"query": "find: "}
    second = compare([other], [replace(suite, name="other")], draws=50).results
    with pytest.raises(ModernPubMedError, match=r"results of two models .* named ours: ") as found:
        compare_results([*first, *second])
    assert ("1" * 64 if change == "fingerprint" else "find: ") in str(found.value)


def test_prompts_stand_under_the_table(bag, suite):
    prompted = bag("ours")
    prompted.prompts = {"query": "find: ", "document": "", "other": "x"}
    bare = bag("bare")
    bare.prompts = {"query": "", "document": ""}
    found = compare([prompted, bare], [suite], draws=50)
    assert found.tables[0].notes[-1] == "ours: query prompt “find: ”"
    assert found.models[0].prompts == {"query": "find: ", "document": ""}


def test_a_stopped_comparison_goes_on(bag, suite, tmp_path: Path):
    first = compare([bag("ours")], [suite], out=tmp_path, draws=50)
    again = bag("ours")
    assert compare([again], [suite], out=tmp_path, draws=50) == first
    assert again.calls == [4]  # the similarity examples, nothing of the suite


@pytest.mark.parametrize(
    "change", ["model", "prompts", "suite", "version", "metrics", "run", "damaged"]
)
def test_what_has_changed_is_measured_again(
    bag, suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
):
    def ours():
        encoder = bag("ours")
        encoder.prompts = {"query": "", "document": ""}
        return encoder

    compare([ours()], [suite], out=tmp_path, draws=50)
    again, metrics = ours(), []
    if change == "model":
        again.fingerprint = "1" * 64
    elif change == "prompts":
        again.prompts = {"query": "find: ", "document": ""}
    elif change == "suite":
        suite = replace(suite, corpus=("Fever is hot.", *suite.corpus[1:]))
    elif change == "metrics":
        metrics = ["Recall@2"]
    elif change == "run":
        (tmp_path / "ours__tiny.run.gz").unlink()
    elif change == "damaged":
        (tmp_path / "ours__tiny.json").write_text('{"half')
    else:
        # By sys.modules: the package's attribute of that name is the function.
        module = sys.modules["modernpubmed.evaluation.compare"]
        monkeypatch.setattr(module, "code_version", lambda: "9")
    compare([again], [suite], out=tmp_path, metrics=metrics, draws=50)
    assert len(again.calls) > 1
    assert read_result(tmp_path / "ours__tiny.json").model == "ours"


def test_bm25_of_other_settings_is_measured_again(bag, suite, tmp_path: Path):
    compare([bag("ours")], [suite], out=tmp_path, draws=50)
    file = tmp_path / "BM25__tiny.json"
    content = json.loads(file.read_text())
    content["manifest"]["settings"]["k1"] = 9.0
    file.write_text(json.dumps(content))
    compare([bag("ours")], [suite], out=tmp_path, draws=50)
    assert json.loads(file.read_text())["manifest"]["settings"]["k1"] == 1.5


def test_a_suite_without_changes_in_it_is_known_under_other_files(bag, suite, tmp_path: Path):
    compare([bag("ours")], [suite], out=tmp_path, draws=50)
    again = bag("ours")
    packed = replace(suite, sources={"corpus.jsonl.gz": "b" * 64})
    compare([again], [packed], out=tmp_path, draws=50)
    assert again.calls == [4]


def hurting(number: int):
    """A suite on which a model that sees nothing loses to one that reads words."""
    words = [f"word{row}" for row in range(number)]
    return Suite(
        name="hurting",
        query_ids=tuple(f"q{row}" for row in range(number)),
        queries=tuple(words),
        corpus_ids=tuple(f"d{row:02}" for row in range(number)),
        corpus=tuple(f"{word} {'long ' * (200 if word == 'word13' else 0)}" for word in words),
        qrels={f"q{row}": {f"d{row:02}": 2, "d00": -1} for row in range(1, number)}
        | {"q0": {"d00": 1}},
    )


def test_the_queries_that_hurt_most(bag, tmp_path: Path):
    class Blind(bag):
        def encode(self, texts):
            vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
            vectors[:, 0] = 1
            return vectors

        encode_query = encode_document = encode

    suite = hurting(14)
    # All documents tie for the blind one: d00, d01, … in this order, so q13 is hurt most.
    found = compare([Blind("blind"), bag("good", dimension=4096)], [suite], out=tmp_path, draws=50)
    against = [query for query in found.hurt if query.rival == "good"]
    assert [query.rival for query in found.hurt] == ["good"] * 10 + ["BM25"] * 10
    # Beyond rank 10 all lose the same: the suite's order; then the nearer ones.
    assert [q.query_id for q in against] == [
        *("q10", "q11", "q12", "q13"),
        *("q9", "q8", "q7", "q6", "q5", "q4"),
    ]
    assert against[0].loss == 1.0
    assert against[4].loss == pytest.approx(1 - 1 / np.log2(11))
    worst = against[3]
    assert (worst.suite, worst.query) == ("hurting", "word13")
    blind, good, bm25 = worst.answers
    assert (blind.model, blind.value, blind.first_relevant) == ("blind", 0.0, 14)
    assert [document.id for document in blind.documents] == ["d00", "d01", "d02", "d03", "d04"]
    assert blind.documents[0] == Document("d00", "word0 ", 0, 1.0)
    assert (good.model, good.value, good.first_relevant) == ("good", 1.0, 1)
    assert (good.documents[0].id, good.documents[0].grade) == ("d13", 2)
    assert bm25.first_relevant == 1
    assert len(bm25.documents) == 1
    # A long text is cut, and that is seen.
    assert len(good.documents[0].text) == 600
    assert good.documents[0].text.endswith("long lo…")
    assert [each.id for each in worst.relevant] == ["d13"]
    assert worst.relevant_count == 1
    # As in the run file.
    run = read_run(tmp_path / "blind__hurting.run.gz")
    assert [document for document, _ in run["q13"][:5]] == [each.id for each in blind.documents]
    # The same without a folder.
    alone = compare([Blind("blind"), bag("good", dimension=4096)], [suite], draws=50)
    assert alone.hurt == found.hurt


def test_hurt_queries_without_runs_or_of_another_suite(tmp_path: Path):
    suite = hurting(3)
    results = [
        replace(evaluate_bm25(suite), model=model, per_query=dict.fromkeys(METRICS, values))
        for model, values in (("ours", (0.0, 0.5, 1.0)), ("other", (1.0, 0.5, 0.5)))
    ]
    assert compare_results(results, draws=50).hurt == ()
    (query,) = compare_results(results, suites=[suite], draws=50).hurt
    assert (query.query_id, query.loss) == ("q0", 1.0)
    assert [answer.documents for answer in query.answers] == [None, None]
    changed = replace(suite, corpus=("x", *suite.corpus[1:]))
    with pytest.raises(ModernPubMedError, match="hurting: the results are of version"):
        compare_results(results, suites=[changed], draws=50)
    foreign = tmp_path / "ours__hurting.run"
    foreign.write_text("q0 Q0 elsewhere 1 0.5 tag\n")
    foreign.rename(tmp_path / "ours__hurting.run.gz")
    with pytest.raises(ModernPubMedError, match=r"ours__hurting\.run\.gz"):
        compare_results(results, suites=[suite], runs=tmp_path, draws=50)


def test_pairs_alone(bag, tmp_path: Path):
    pairs = SentencePairs("sts", ("a b", "a"), ("a b", "c"), (1.0, 0.0))
    found = compare([bag()], [], pairs=[pairs], out=tmp_path)
    assert (found.tables, found.averages, found.models, found.method.family) == ((), (), (), 0)
    assert len(found.correlations) == 1
    assert read_comparison(tmp_path) == found


def test_a_comparison_knows_its_results(bag, suite, tmp_path: Path):
    found = compare([bag("ours")], [suite], out=tmp_path, draws=50)
    with pytest.raises(ModernPubMedError, match=r"elsewhere/ours__tiny\.json: the result that"):
        write_comparison(found, tmp_path / "elsewhere")
    write_result(replace(found.results[0], seconds=99.0), tmp_path)
    with pytest.raises(
        ModernPubMedError, match=r"ours__tiny\.json: has changed since comparison\.json"
    ):
        read_comparison(tmp_path)
    for broken in ("", "[]", '{"results": {}}', '{"results": {}, "tables": [{"suite": 1}]}'):
        (tmp_path / "comparison.json").write_text(broken)
        with pytest.raises(ModernPubMedError, match=r"comparison\.json: no readable comparison"):
            read_comparison(tmp_path)
    with pytest.raises(ModernPubMedError, match="no readable comparison"):
        read_comparison(tmp_path / "nowhere")

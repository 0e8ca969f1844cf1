"""Hub data sets in the layouts that they have there, written by ourselves; no network."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modernpubmed.errors import ModernPubMedError
from modernpubmed.hub_suites import (
    JUDGED_TWICE,
    NO_ANSWER,
    NO_TEXT,
    NO_TEXT_JUDGED,
    REPEATED,
    hub_questions,
    hub_sentence_pairs,
    hub_suite,
)
from modernpubmed.manifest import sha256
from modernpubmed.suites import UNJUDGED, read_suite, write_suite

CORPUS: list[dict[str, Any]] = [
    {"_id": "d1", "title": "Fever", "text": "A raised body temperature."},
    {"_id": "d2", "title": "", "text": "Pain in the head."},
    {"_id": "d3", "title": "", "text": "Cough with blood."},
]
QUERIES: list[dict[str, Any]] = [
    {"_id": "q1", "text": "pyrexia"},
    {"_id": "q2", "text": "headache"},
    {"_id": "q3", "text": "of the training split"},
]
QRELS: list[dict[str, Any]] = [
    {"query-id": "q1", "corpus-id": "d1", "score": 2.0},
    {"query-id": "q1", "corpus-id": "d3", "score": 0.0},
    {"query-id": "q2", "corpus-id": "d2", "score": 1.0},
]
TRAIN: list[dict[str, Any]] = [{"query-id": "q3", "corpus-id": "d3", "score": 1.0}]

CARD_OF_LINES = """---
license: cc-by-4.0
configs:
- config_name: default
  data_files:
  - split: train
    path: qrels/train.jsonl
  - split: test
    path: qrels/test.jsonl
- config_name: corpus
  data_files:
  - split: corpus
    path: corpus.jsonl
- config_name: queries
  data_files:
  - split: queries
    path: queries.jsonl
---
# A data set
"""
CARD_OF_PARQUET = """---
configs:
- config_name: corpus
  data_files:
  - split: test
    path: corpus/test-*
- config_name: qrels
  data_files:
  - split: test
    path: qrels/test-*
- config_name: queries
  data_files:
  - split: test
    path: queries/test-*
---
"""


def lines(file: Path, rows: list[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if file.suffix == ".gz":
        file.write_bytes(gzip.compress(text.encode()))
    else:
        file.write_text(text)


def parquet(file: Path, rows: list[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), file)


def of_lines(
    folder: Path,
    corpus: list[dict[str, Any]] | None = None,
    queries: list[dict[str, Any]] | None = None,
    qrels: list[dict[str, Any]] | None = None,
) -> Path:
    """As mteb/nfcorpus: JSON lines and a card that says which is which."""
    lines(folder / "corpus.jsonl", corpus or CORPUS)
    lines(folder / "queries.jsonl", queries or QUERIES)
    lines(folder / "qrels" / "test.jsonl", qrels or QRELS)
    lines(folder / "qrels" / "train.jsonl", TRAIN)
    (folder / "README.md").write_text(CARD_OF_LINES)
    return folder


def check(suite: Any) -> None:
    assert suite.query_ids == ("q1", "q2")
    assert suite.queries == ("pyrexia", "headache")
    assert suite.corpus_ids == ("d1", "d2", "d3")
    assert suite.corpus[0] == "Fever A raised body temperature."
    assert suite.qrels == {"q1": {"d1": 2, "d3": 0}, "q2": {"d2": 1}}
    assert suite.dropped == {UNJUDGED: 1}


def test_json_lines_with_a_card(tmp_path: Path) -> None:
    folder = of_lines(tmp_path / "set")
    suite = hub_suite("tiny", folder)
    check(suite)
    assert suite.name == "tiny"
    names = ("corpus.jsonl", "queries.jsonl", "qrels/test.jsonl")
    assert suite.sources == {name: sha256(folder / name) for name in names}
    write_suite(suite, tmp_path / "beir")
    assert read_suite(tmp_path / "beir").qrels == suite.qrels


def test_parquet_with_a_card(tmp_path: Path) -> None:
    # As the library datasets uploads them, in several files, the ids called "id".
    for name, rows in (("corpus", CORPUS), ("queries", QUERIES)):
        renamed = [{"id": r["_id"], **{k: v for k, v in r.items() if k != "_id"}} for r in rows]
        parquet(tmp_path / name / "test-00000-of-00002.parquet", renamed[:1])
        parquet(tmp_path / name / "test-00001-of-00002.parquet", renamed[1:])
    parquet(tmp_path / "qrels" / "test-00000-of-00001.parquet", QRELS)
    (tmp_path / "README.md").write_text(CARD_OF_PARQUET)
    check(hub_suite("tiny", tmp_path))


def test_beir_layout_without_a_card(tmp_path: Path) -> None:
    lines(tmp_path / "corpus.jsonl.gz", CORPUS)
    lines(tmp_path / "queries.jsonl.gz", QUERIES)
    rows = ["query-id\tcorpus-id\tscore", "q1\td1\t2", "q1\td3\t0", "q2\td2\t1", ""]
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("\n".join(rows))
    (tmp_path / "README.md").write_text("# No front matter\n")
    check(hub_suite("tiny", tmp_path))


def test_uploaded_parquet_without_a_card(tmp_path: Path) -> None:
    parquet(tmp_path / "corpus" / "corpus-00000-of-00001.parquet", CORPUS)
    parquet(tmp_path / "queries" / "queries-00000-of-00001.parquet", QUERIES)
    parquet(tmp_path / "data" / "test-00000-of-00001.parquet", QRELS)
    check(hub_suite("tiny", tmp_path))


def test_all_splits_together(tmp_path: Path) -> None:
    """As clinia/CUREv1: a split for each specialty, documents shared between them."""
    card = ["---", "configs:"]
    for config, file in (("corpus", "corpus"), ("queries-en", "queries-en"), ("qrels", "qrels")):
        card += [f"- config_name: {config}", "  data_files:"]
        for split in ("dermatology", "genetics"):
            card += [f"  - split: {split}", f"    path: {split}/{file}.jsonl"]
    (tmp_path / "README.md").write_text("\n".join([*card, "---", ""]))
    lines(tmp_path / "dermatology" / "corpus.jsonl", CORPUS[:2])
    lines(tmp_path / "genetics" / "corpus.jsonl", CORPUS[1:])
    lines(tmp_path / "dermatology" / "queries-en.jsonl", QUERIES[:1])
    lines(tmp_path / "genetics" / "queries-en.jsonl", QUERIES[1:])
    lines(tmp_path / "dermatology" / "qrels.jsonl", QRELS)
    lines(tmp_path / "genetics" / "qrels.jsonl", QRELS[2:])
    suite = hub_suite("cure", tmp_path, split="all", queries="queries-en")
    assert suite.corpus_ids == ("d1", "d2", "d3")
    assert suite.qrels == {"q1": {"d1": 2, "d3": 0}, "q2": {"d2": 1}}
    assert suite.dropped == {UNJUDGED: 1, REPEATED: 1, JUDGED_TWICE: 1}
    lines(tmp_path / "genetics" / "corpus.jsonl", [{**CORPUS[1], "text": "Not the same."}])
    with pytest.raises(ModernPubMedError, match=r"genetics/corpus\.jsonl: line 1: the id 'd2' is"):
        hub_suite("cure", tmp_path, split="all", queries="queries-en")


def test_a_document_without_a_text_is_counted(tmp_path: Path) -> None:
    empty = {"_id": "d0", "title": " ", "text": ""}
    judged = {"query-id": "q1", "corpus-id": "d0", "score": 1}
    suite = hub_suite("tiny", of_lines(tmp_path, [*CORPUS, empty], qrels=[*QRELS, judged]))
    assert suite.corpus_ids == ("d1", "d2", "d3")
    assert suite.relevant("q1") == {"d1"}
    assert suite.dropped == {UNJUDGED: 1, NO_TEXT: 1, NO_TEXT_JUDGED: 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"qrels": [{**QRELS[0], "corpus-id": "d9"}]}, r"line 1: dangling qrel: no document 'd9'"),
        ({"qrels": [*QRELS, {**QRELS[0], "query-id": "q9"}]}, r"line 4: dangling .* no query 'q9'"),
        ({"qrels": [*QRELS, {**QRELS[0], "score": 1}]}, r"'q1' and 'd1' are judged 2 and 1"),
        ({"qrels": [{**QRELS[0], "score": 0.5}]}, r"the grade 0\.5 is no integer"),
        ({"qrels": [{**QRELS[0], "score": "high"}]}, r"the grade 'high' is no integer"),
        ({"qrels": [{"query-id": "q1", "score": 1}]}, r"no query-id, corpus-id or score"),
        ({"qrels": [{**QRELS[0], "score": 0}]}, r"no relevant pair"),
        ({"corpus": [*CORPUS, {**CORPUS[0], "text": "Else."}]}, r"line 4: the id 'd1' is there al"),
        ({"corpus": [{"title": "no id", "text": "x"}]}, r"corpus\.jsonl: line 1: no _id"),
        ({"corpus": [{"_id": "d1"}]}, r"line 1: no text"),
        ({"queries": [*QUERIES, {"_id": "q4", "text": " "}]}, r"a query without a text \('q4'\)"),
        ({"queries": [*QUERIES, {"_id": "q1", "text": "other"}]}, r"the id 'q1' is there already"),
    ],
)
def test_bad_data_sets(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModernPubMedError, match=message) as caught:
        hub_suite("bad", of_lines(tmp_path / "set", **change))
    assert "Remedy: " in str(caught.value)


def test_empty_and_missing_tables(tmp_path: Path) -> None:
    folder = of_lines(tmp_path / "set")
    (folder / "corpus.jsonl").write_text("")
    with pytest.raises(ModernPubMedError, match=r"corpus\.jsonl: the file is empty"):
        hub_suite("empty", folder)
    (folder / "corpus.jsonl").unlink()
    with pytest.raises(ModernPubMedError, match="no files of corpus, split test"):
        hub_suite("missing", folder)
    parquet(folder / "corpus" / "corpus-0.parquet", CORPUS)
    empty = pq.read_table(folder / "corpus" / "corpus-0.parquet").slice(0, 0)
    pq.write_table(empty, folder / "corpus" / "corpus-0.parquet")
    with pytest.raises(ModernPubMedError, match=r"corpus-0\.parquet: no records"):
        hub_suite("empty", folder)
    (folder / "corpus" / "corpus-0.parquet").write_bytes(b"PAR1")
    with pytest.raises(ModernPubMedError, match=r"corpus-0\.parquet: cannot be read as Parquet"):
        hub_suite("damaged", folder)
    with pytest.raises(ModernPubMedError, match="no files of default or qrels, split dev"):
        parquet(folder / "corpus" / "corpus-0.parquet", CORPUS)
        hub_suite("no such split", folder, split="dev")
    (folder / "README.md").write_text("---\nconfigs: [\n---\n")
    with pytest.raises(ModernPubMedError, match=r"README\.md: the card's front matter cannot be"):
        hub_suite("broken card", folder)


def test_what_is_asked_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = of_lines(tmp_path / "set")
    asked: list[tuple[str, dict[str, Any]]] = []

    def snapshot_download(name: str, **options: Any) -> str:
        asked.append((name, options))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    check(hub_suite("tiny", "owner/tiny", revision="abc"))
    ((name, options),) = asked
    assert name == "owner/tiny"
    assert options["revision"] == "abc"
    assert options["repo_type"] == "dataset"
    assert {"README.md", "*.jsonl", "*.parquet"} <= set(options["allow_patterns"])


def test_a_connection_that_breaks_off(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import errors

    def broken(*_: Any, **__: Any) -> str:
        raise errors.HTTPError("peer closed connection")

    monkeypatch.setattr("huggingface_hub.snapshot_download", broken)
    with pytest.raises(ModernPubMedError, match=r"owner/x: not to be had from the hub"):
        hub_suite("x", "owner/x")


QUESTIONS = [
    ("What is a fever?", "Heat."),
    ("Unanswered?", ""),
    ("What is a cough?", 'A "noise", loud.'),
    ("What is a fever?", "A raised temperature."),
    ("What is heat?", "Heat."),
]


@pytest.mark.parametrize("form", ["card and CSV", "CSV", "parquet"])
def test_questions_and_answers(tmp_path: Path, form: str) -> None:
    """As xhluca/publichealth-qa: a table for each language."""
    if form == "parquet":
        rows = [{"question": q, "answer": a or None} for q, a in QUESTIONS]
        parquet(tmp_path / "data" / "english" / "test-00000-of-00001.parquet", rows)
    else:
        (tmp_path / "data").mkdir()
        quoted = [f'"{q}","{a.replace(chr(34), chr(34) * 2)}"' for q, a in QUESTIONS]
        (tmp_path / "data" / "english.csv").write_text("\n".join(["question,answer", *quoted, ""]))
        (tmp_path / "data" / "french.csv").write_text("question,answer\nQuoi ?,Rien.\n")
    if form == "card and CSV":
        card = "---\nconfigs:\n- config_name: english\n  data_files:\n  - split: test\n"
        (tmp_path / "README.md").write_text(card + "    path: data/english.csv\n---\n")
    suite = hub_questions("health", tmp_path, config="english")
    assert dict(zip(suite.query_ids, suite.queries, strict=True)) == {
        "Q0": "What is a fever?",
        "Q2": "What is a cough?",
        "Q3": "What is heat?",
    }
    assert dict(zip(suite.corpus_ids, suite.corpus, strict=True)) == {
        "D0": "Heat.",
        "D1": 'A "noise", loud.',
        "D2": "A raised temperature.",
    }
    assert suite.qrels == {"Q0": {"D0": 1, "D2": 1}, "Q2": {"D1": 1}, "Q3": {"D0": 1}}
    assert suite.dropped == {NO_ANSWER: 1}


def test_bad_questions(tmp_path: Path) -> None:
    parquet(tmp_path / "english.parquet", [{"question": "a", "reply": "b"}])
    with pytest.raises(ModernPubMedError, match=r"english\.parquet: row 1: no column answer"):
        hub_questions("x", tmp_path, config="english")
    parquet(tmp_path / "english.parquet", [{"question": "a", "answer": 7}])
    with pytest.raises(ModernPubMedError, match="the answer is no text"):
        hub_questions("x", tmp_path, config="english")
    parquet(tmp_path / "english.parquet", [{"question": "a", "answer": ""}])
    with pytest.raises(ModernPubMedError, match="no relevant pair"):
        hub_questions("x", tmp_path, config="english")


@pytest.mark.parametrize("place", ["test.jsonl.gz", "data/test-00000-of-00001.parquet"])
def test_sentence_pairs(tmp_path: Path, place: str) -> None:
    """As mteb/biosses-sts."""
    rows = [
        {"sentence1": "It rose. ", "sentence2": "It went up.", "score": 4.0},
        {"sentence1": "It rose.", "sentence2": "It fell.", "score": 1.4},
    ]
    (parquet if place.endswith("parquet") else lines)(tmp_path / place, rows)
    pairs = hub_sentence_pairs("biosses", tmp_path)
    assert pairs.first == ("It rose.", "It rose.")
    assert pairs.second == ("It went up.", "It fell.")
    assert pairs.scores == (4.0, 1.4)
    assert pairs.sources == {place: sha256(tmp_path / place)}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"sentence1": "a", "score": 1.0}, "line 1: no sentence1 or no sentence2"),
        ({"sentence1": "a", "sentence2": " ", "score": 1.0}, "no sentence1 or no sentence2"),
        ({"sentence1": " ", "sentence2": "b", "score": 1.0}, "no sentence1 or no sentence2"),
        ({"sentence1": "a", "sentence2": "b"}, "the score None is no number"),
        ({"sentence1": "a", "sentence2": "b", "score": float("nan")}, "score nan is no number"),
    ],
)
def test_bad_pairs(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    lines(tmp_path / "test.jsonl", [row])
    with pytest.raises(ModernPubMedError, match=message):
        hub_sentence_pairs("bad", tmp_path)

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import Manifest, sha256
from modernpubmed.suites import (
    UNJUDGED,
    SentencePairs,
    Suite,
    read_sentence_pairs,
    read_suite,
    suite_checksum,
    wiki_medical_terms,
    write_sentence_pairs,
    write_suite,
)

DATA = Path(__file__).parents[1].parent / "shared" / "data"

CORPUS = [
    '{"_id": "d1", "title": "Fever", "text": "A raised body temperature."}',
    '{"_id": "d2", "title": "", "text": "Pain in the head."}',
    '{"_id": "d3", "text": "Cough with blood."}',
]
QUERIES = [
    '{"_id": "q1", "text": "pyrexia"}',
    '{"_id": "q2", "text": "headache"}',
    '{"_id": "q3", "text": "nothing here"}',
    '{"_id": "q4", "text": "judged, and nothing relevant"}',
]
QRELS = ["query-id\tcorpus-id\tscore", "q1\td1\t2", "q1\td3\t0", "q2\td2\t1", "q4\td1\t0"]


def make(
    folder: Path,
    corpus: list[str] | None = None,
    queries: list[str] | None = None,
    qrels: list[str] | None = None,
) -> Path:
    folder.mkdir()
    for name, lines in (
        ("corpus.jsonl", corpus or CORPUS),
        ("queries.jsonl", queries or QUERIES),
        ("qrels.tsv", qrels or QRELS),
    ):
        (folder / name).write_text("\n".join(lines) + "\n")
    return folder


def test_read_suite(tmp_path: Path) -> None:
    folder = make(tmp_path / "small")
    suite = read_suite(folder)
    assert suite == Suite(
        name="small",
        query_ids=("q1", "q2"),
        queries=("pyrexia", "headache"),
        corpus_ids=("d1", "d2", "d3"),
        corpus=("Fever A raised body temperature.", "Pain in the head.", "Cough with blood."),
        qrels={"q1": {"d1": 2, "d3": 0}, "q2": {"d2": 1}},
        dropped={UNJUDGED: 2},
        sources={
            name: sha256(folder / name) for name in ("corpus.jsonl", "queries.jsonl", "qrels.tsv")
        },
    )
    assert suite.relevant("q1") == {"d1"}


def test_packed_files_and_the_test_split_of_a_qrels_folder(tmp_path: Path) -> None:
    plain = make(tmp_path / "plain")
    packed = tmp_path / "packed"
    (packed / "qrels").mkdir(parents=True)
    corpus, queries = ((plain / name).read_bytes() for name in ("corpus.jsonl", "queries.jsonl"))
    (packed / "corpus.jsonl.gz").write_bytes(gzip.compress(corpus))
    (packed / "queries.jsonl.zst").write_bytes(zstandard.compress(queries))
    (packed / "qrels" / "test.tsv").write_bytes((plain / "qrels.tsv").read_bytes())
    one, other = read_suite(plain), read_suite(packed)
    assert (one.queries, one.corpus, one.qrels) == (other.queries, other.corpus, other.qrels)
    assert set(other.sources) == {"corpus.jsonl.gz", "queries.jsonl.zst", "qrels/test.tsv"}


@pytest.mark.parametrize("packed", [gzip.compress, zstandard.compress])
def test_a_cut_off_file_is_refused(tmp_path: Path, packed) -> None:
    folder = make(tmp_path / "cut")
    (folder / "corpus.jsonl").unlink()
    many = "\n".join(
        json.dumps({"_id": str(n), "text": str(n * 7919**9 % 10**30)}) for n in range(3000)
    )
    blob = packed(many.encode())
    ending = "gz" if packed is gzip.compress else "zst"
    (folder / f"corpus.jsonl.{ending}").write_bytes(blob[: len(blob) // 2])
    with pytest.raises(ModernPubMedError, match=rf"corpus\.jsonl\.{ending}: .*cannot be read"):
        read_suite(folder)


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels.tsv"])
def test_a_missing_file(tmp_path: Path, name: str) -> None:
    folder = make(tmp_path / "lacking")
    (folder / name).unlink()
    with pytest.raises(ModernPubMedError, match=f"lacking: no {name} or .*Remedy"):
        read_suite(folder)


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ModernPubMedError, match="nowhere: no such folder"):
        read_suite(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("file", "lines", "message"),
    [
        ("corpus", [*CORPUS, '{"_id": "d4", "text": '], "corpus.jsonl: line 4: not JSON"),
        ("corpus", [*CORPUS, '["d4"]'], "corpus.jsonl: line 4: not a JSON object"),
        ("corpus", ['{"text": "x"}', *CORPUS], "corpus.jsonl: line 1: no _id"),
        ("corpus", [*CORPUS, '{"_id": "d4", "title": "x"}'], "corpus.jsonl: line 4: no text"),
        ("corpus", [*CORPUS, '{"_id": "d4", "text": 5}'], "line 4: title or text is no string"),
        ("corpus", [*CORPUS, '{"_id": 1.5, "text": "x"}'], "line 4: the _id 1.5 is no string"),
        ("corpus", [*CORPUS, CORPUS[1]], "corpus.jsonl: line 4: the id 'd2' is there already"),
        ("corpus", [*CORPUS, '{"_id": "d4", "text": " "}'], "line 4: empty text ('d4')"),
        ("queries", [QUERIES[0], "", "{"], "queries.jsonl: line 3: not JSON"),
        ("queries", [QUERIES[0], QUERIES[0]], "queries.jsonl: line 2: the id 'q1' is there"),
        ("queries", ['{"_id": "q1", "text": ""}'], "queries.jsonl: line 1: empty text"),
        ("qrels", QRELS[1:], "qrels.tsv: line 1: no header line"),
        ("qrels", [*QRELS, "q9\td1\t1"], "qrels.tsv: line 6: dangling qrel: no query 'q9'"),
        ("qrels", [*QRELS, "q1\td9\t1"], "qrels.tsv: line 6: dangling qrel: no document 'd9'"),
        ("qrels", [*QRELS, "q2\td1\t0.5"], "qrels.tsv: line 6: the grade '0.5' is no integer"),
        ("qrels", [*QRELS, "q2\td1"], "qrels.tsv: line 6: 2 fields instead of 3"),
        ("qrels", [*QRELS, "q2\td2\t1"], "qrels.tsv: line 6: 'q2' and 'd2' are judged twice"),
        ("qrels", [QRELS[0], "q4\td1\t0"], "qrels.tsv: no relevant pair"),
        ("qrels", QRELS[:1], "qrels.tsv: no relevant pair"),
    ],
)
def test_a_bad_line(tmp_path: Path, file: str, lines: list[str], message: str) -> None:
    folder = make(tmp_path / "bad", **{file: lines})
    with pytest.raises(ModernPubMedError) as caught:
        read_suite(folder)
    assert message in str(caught.value)
    assert "Remedy: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    folder = make(tmp_path / "latin")
    (folder / "corpus.jsonl").write_bytes(CORPUS[0].encode() + b'\n{"_id": "d2", "text": "\xe9"}\n')
    with pytest.raises(ModernPubMedError, match=r"corpus\.jsonl: line 2: cannot be read .*utf-8"):
        read_suite(folder)


def test_write_suite_reads_back(tmp_path: Path) -> None:
    suite = read_suite(make(tmp_path / "small"))
    copy = tmp_path / "copies" / "small"
    write_suite(suite, copy)
    write_suite(suite, copy)  # over the first
    again = read_suite(copy)
    for field in ("name", "query_ids", "queries", "corpus_ids", "corpus", "qrels"):
        assert getattr(again, field) == getattr(suite, field)
    manifest = Manifest.read(copy)
    assert manifest.kind == "suite"
    assert manifest.inputs == suite.sources
    assert manifest.counts == {"queries": 2, "documents": 3, "judgements": 3}
    assert manifest.dropped == {UNJUDGED: 2}
    assert manifest.settings == {"version": suite_checksum(suite)}


def test_write_suite_leaves_other_folders_alone(tmp_path: Path) -> None:
    suite = read_suite(make(tmp_path / "small"))
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("years")
    with pytest.raises(ModernPubMedError, match="work: exists and is not a suite"):
        write_suite(suite, tmp_path / "work")
    assert (tmp_path / "work" / "thesis.txt").read_text() == "years"


@pytest.mark.parametrize("identifier", ["a\tb", "a\nb", " a", ""])
def test_write_suite_refuses_ids_that_qrels_cannot_carry(tmp_path: Path, identifier: str) -> None:
    suite = Suite("s", ("q",), ("x",), (identifier,), ("y",), {"q": {identifier: 1}})
    with pytest.raises(ModernPubMedError, match="cannot be written"):
        write_suite(suite, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_sentence_pairs(tmp_path: Path) -> None:
    file = tmp_path / "sts.tsv"
    file.write_text('id\tsentence1\ts2\tlabel\n1\tHe said "no\tShe left\t1\n2\ta\tb\t0.5\n')
    pairs = read_sentence_pairs(file)
    assert pairs.name == "sts"
    assert pairs.first == ('He said "no', "a")
    assert pairs.second == ("She left", "b")
    assert pairs.scores == (1.0, 0.5)
    assert pairs.sources == {"sts.tsv": sha256(file)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1: no column s1 or sentence1"),
        ("s1\ts2\nx\ty\n", "line 1: no column score or mean_score or label"),
        ("s1\ts2\tscore\n", "bad.tsv: no pairs"),
        ("s1\ts2\tscore\nx\ty\n", "line 2: 2 fields where the header has 3"),
        ("s1\ts2\tscore\nx\ty\t1\nx\t\t1\n", "line 3: an empty sentence"),
        ("s1\ts2\tscore\nx\ty\thigh\n", "line 2: the score 'high' is no number"),
        ("s1\ts2\tscore\nx\ty\tnan\n", "line 2: the score 'nan' is no number"),
    ],
)
def test_bad_sentence_pairs(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "bad.tsv"
    file.write_text(content)
    with pytest.raises(ModernPubMedError) as caught:
        read_sentence_pairs(file)
    assert message in str(caught.value)


def test_missing_sentence_pairs(tmp_path: Path) -> None:
    with pytest.raises(ModernPubMedError, match=r"none\.tsv: cannot be read"):
        read_sentence_pairs(tmp_path / "none.tsv")


def wiki(folder: Path) -> Path:
    folder.mkdir()
    columns = {
        "page_title": ["Fever", "Untold", None, "Cough"],
        "page_text": ["Fever is heat.", " ", "No title.", "Cough is loud."],
        "__index_level_0__": [0, 1, 2, 3],
    }
    pq.write_table(pa.table(columns), folder / "wiki.parquet")
    return folder


def test_wiki_medical_terms_from_a_folder(tmp_path: Path) -> None:
    folder = wiki(tmp_path / "wiki")
    suite = wiki_medical_terms(folder)
    assert suite.name == "wiki_medical_terms"
    assert suite.queries == ("Fever", "Cough")
    assert suite.corpus == ("Fever is heat.", "Cough is loud.")
    assert suite.qrels == {"0": {"0": 1}, "3": {"3": 1}}
    assert suite.dropped == {"row without a title or a text": 2}
    assert suite.sources == {"wiki.parquet": sha256(folder / "wiki.parquet")}


def test_wiki_medical_terms_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = wiki(tmp_path / "wiki")
    asked = []

    def snapshot_download(name: str, **options: object) -> str:
        asked.append((name, options))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    assert wiki_medical_terms(revision="abc").queries == ("Fever", "Cough")
    options = {
        "repo_type": "dataset",
        "revision": "abc",
        "allow_patterns": ["*.parquet"],
        "local_files_only": False,
    }
    assert asked == [("gamino/wiki_medical_terms", options)]


def test_wiki_medical_terms_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    # The real client, with its own switch for having no network and a cache that is empty.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModernPubMedError, match="not to be had from the hub") as caught:
        wiki_medical_terms("gamino/never-fetched")
    assert "\n" not in str(caught.value)


def test_wiki_medical_terms_refuses_other_files(tmp_path: Path) -> None:
    with pytest.raises(ModernPubMedError, match="no Parquet file"):
        wiki_medical_terms(tmp_path)
    file = tmp_path / "x.parquet"
    pq.write_table(pa.table({"title": ["x"]}), file)
    with pytest.raises(ModernPubMedError, match=r"x\.parquet: no columns page_title"):
        wiki_medical_terms(tmp_path)
    file.write_bytes(b"PAR1 not really")
    with pytest.raises(ModernPubMedError, match=r"x\.parquet: cannot be read as Parquet"):
        wiki_medical_terms(tmp_path)


@pytest.mark.real
@pytest.mark.skipif(not DATA.exists(), reason="the real data are not there")
@pytest.mark.parametrize(
    ("name", "queries", "documents", "judgements"),
    [
        ("medquad_focus", 3474, 3474, 3474),
        ("pubmedqa_pqal", 1000, 1000, 1000),
        ("concept_hpo_name2def", 16449, 16449, 16449),
        ("concept_hpo_synonym", 19857, 19034, 19857),
        ("concept_icd10cm_inclusion", 12518, 46881, 12546),
    ],
)
def test_real_suites(name: str, queries: int, documents: int, judgements: int) -> None:
    suite = read_suite(DATA / "suites" / name)
    assert len(suite.queries) == len(suite.query_ids) == queries
    assert len(suite.corpus) == len(suite.corpus_ids) == documents
    assert sum(map(len, suite.qrels.values())) == judgements
    assert suite.dropped == {}


@pytest.mark.real
@pytest.mark.skipif(not DATA.exists(), reason="the real data are not there")
@pytest.mark.parametrize(("name", "count", "total"), [("biosses", 100, 219.8), ("mqp", 3048, 1524)])
def test_real_sentence_pairs(name: str, count: int, total: float) -> None:
    pairs = read_sentence_pairs(DATA / "suites" / "pairs" / f"{name}.tsv")
    assert len(pairs.first) == len(pairs.second) == count
    assert sum(pairs.scores) == pytest.approx(total)


def write_pairs(path: Path, rows: list[dict]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_a_file_of_pairs_is_a_suite(tmp_path: Path) -> None:
    folder = tmp_path / "pairs"
    folder.mkdir()
    rows = [{"anchor": "Gout", "positive": "A joint."}, {"anchor": "Flu", "positive": "A virus."}]
    suite = read_suite(write_pairs(folder / "dev.parquet", rows))
    assert (suite.name, suite.queries, suite.corpus) == (
        "pairs_dev",
        ("Gout", "Flu"),
        ("A joint.", "A virus."),
    )
    assert suite.qrels == {"1": {"1": 1}, "2": {"2": 1}}
    assert suite.sources == {"dev.parquet": sha256(folder / "dev.parquet")}


@pytest.mark.parametrize(
    ("rows", "cause"),
    [
        ([{"anchor": "Gout", "positive": " "}], "row 1: no anchor or no positive"),
        ([{"anchor": "Gout", "positive": "A"}, {"anchor": None, "positive": "B"}], "row 2: no"),
        ([{"anchor": "Gout", "text": "A joint."}], "cannot be read as pairs|no anchor"),
    ],
)
def test_a_bad_file_of_pairs(tmp_path: Path, rows: list[dict], cause: str) -> None:
    with pytest.raises(ModernPubMedError, match=cause):
        read_suite(write_pairs(tmp_path / "dev.parquet", rows))
    (tmp_path / "dev.parquet").write_bytes(b"PAR1")
    with pytest.raises(ModernPubMedError, match="cannot be read as pairs"):
        read_suite(tmp_path / "dev.parquet")
    empty = pa.table({"anchor": pa.array([], pa.string()), "positive": pa.array([], pa.string())})
    pq.write_table(empty, tmp_path / "dev.parquet")
    with pytest.raises(ModernPubMedError, match="holds no pair"):
        read_suite(tmp_path / "dev.parquet")


def test_the_checksum_is_of_what_a_suite_holds(tmp_path: Path) -> None:
    suite = read_suite(make(tmp_path / "small"))
    version = suite_checksum(suite)
    assert len(version) == 64
    # A copy, under another name, its judgements in another order, is the same version.
    write_suite(suite, tmp_path / "copy")
    copy = read_suite(tmp_path / "copy")
    assert (copy.name, copy.dropped) != (suite.name, suite.dropped)
    assert suite_checksum(copy) == version
    turned = {query: dict(reversed(grades.items())) for query, grades in suite.qrels.items()}
    assert suite_checksum(replace(suite, qrels=turned)) == version
    # Anything that can change a figure is another version.
    others = [
        replace(suite, queries=("pyrexia", "Headache")),
        replace(suite, query_ids=("q1", "q9"), qrels={"q1": {"d1": 2, "d3": 0}, "q9": {"d2": 1}}),
        replace(suite, query_ids=("q2", "q1"), queries=("headache", "pyrexia")),
        replace(suite, corpus_ids=suite.corpus_ids[::-1], corpus=suite.corpus[::-1]),
        replace(suite, corpus_ids=suite.corpus_ids[::-1]),
        replace(suite, corpus=(*suite.corpus[:2], "Cough with  blood.")),
        replace(suite, qrels={**suite.qrels, "q1": {"d1": 1, "d3": 0}}),
        replace(suite, qrels={**suite.qrels, "q1": {"d1": 2}}),
    ]
    assert len({version, *map(suite_checksum, others)}) == len(others) + 1


def test_the_checksum_of_sentence_pairs() -> None:
    pairs = SentencePairs("a", ("x", "y"), ("u", "v"), (1.0, 2.0))
    version = suite_checksum(pairs)
    assert suite_checksum(SentencePairs("b", ("x", "y"), ("u", "v"), (1, 2))) == version
    others = [
        replace(pairs, scores=(1.0, 2.5)),
        replace(pairs, first=pairs.second, second=pairs.first),
        replace(pairs, first=("y", "x"), second=("v", "u"), scores=(2.0, 1.0)),
    ]
    assert len({version, *map(suite_checksum, others)}) == 4


def test_sentence_pairs_go_to_a_file_and_back(tmp_path: Path) -> None:
    pairs = SentencePairs("sts", ("It rose.", 'A "b"'), ("It fell.", "c"), (0.1, 4.0), {"f": "0"})
    write_sentence_pairs(pairs, tmp_path / "out", settings={"source": "invented"})
    read = read_sentence_pairs(tmp_path / "out" / "sts.tsv")
    assert (read.name, read.first, read.second, read.scores) == (
        pairs.name, pairs.first, pairs.second, pairs.scores
    )  # fmt: skip
    manifest = Manifest.read(tmp_path / "out")
    assert manifest.settings == {"source": "invented", "version": suite_checksum(pairs)}
    write_sentence_pairs(pairs, tmp_path / "out")  # replaces what it wrote
    bad = replace(pairs, second=("It\tfell.", "c"))
    with pytest.raises(ModernPubMedError, match="pair 1: a sentence with a tab"):
        write_sentence_pairs(bad, tmp_path / "bad")
    assert not (tmp_path / "bad").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(ModernPubMedError, match="is no folder of sentence pairs"):
        write_sentence_pairs(pairs, tmp_path / "mine")

"""Every kind of file that documents are read from, and what is wrong with broken ones."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from modernpubmed.errors import ModernPubMedError
from modernpubmed.records import AbstractSection, Article, Pair, article_to_row, pair_to_row
from modernpubmed.schemas import ARTICLE_SCHEMA, PAIR_SCHEMA
from modernpubmed.search import Document, read_documents


def write_parquet(path, rows, schema):
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return path


def test_articles(tmp_path):
    article = Article(
        7,
        "A title.",
        sections=(AbstractSection("One.", "AIM"), AbstractSection("Two.")),
        year=1999,
        journal="A Journal",
    )
    rows = [article_to_row(article), article_to_row(Article(8, "No abstract."))]
    path = write_parquet(tmp_path / "articles.parquet", rows, ARTICLE_SCHEMA)
    assert list(read_documents(path)) == [
        Document("7", "A title.", "One. Two.", 7, 1999, "A Journal"),
        Document("8", "No abstract.", "", 8),
    ]


def test_pairs_take_the_row_as_id_where_there_is_no_pmid(tmp_path):
    pairs = [Pair("A", "a", pmid=5, year=2001), Pair("B", "b")]
    path = write_parquet(tmp_path / "p.parquet", [pair_to_row(p) for p in pairs], PAIR_SCHEMA)
    assert list(read_documents(path)) == [
        Document("5", "A", "a", 5, 2001),
        Document("row 2", "B", "b"),
    ]


def test_folder_of_parquet_is_read_in_name_order(tmp_path):
    for name, pmid in (("b", 2), ("a", 1)):
        rows = [article_to_row(Article(pmid, "T"))]
        write_parquet(tmp_path / f"{name}.parquet", rows, ARTICLE_SCHEMA)
    assert [document.id for document in read_documents(tmp_path)] == ["1", "2"]


def test_beir_folder(tmp_path):
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d1", "title": "T", "text": "X"}\n')
    assert list(read_documents(tmp_path)) == [Document("d1", "T", "X")]


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_jsonl(tmp_path, ending):
    rows = [
        {"id": 3, "text": "Fièvre", "year": 2020, "pmid": 9, "journal": "J"},
        {"id": "b", "text": ""},
    ]
    content = ("\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n\n").encode()
    pack = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}[ending]
    path = tmp_path / f"d.jsonl{ending}"
    path.write_bytes(pack(content))
    assert list(read_documents(path)) == [
        Document("3", "", "Fièvre", 9, 2020, "J"),
        Document("b"),
    ]


def test_text_lines_keep_their_number_and_blank_ones_are_not_swallowed(tmp_path):
    path = tmp_path / "d.txt"
    path.write_text("\ufeffone\n\ntwo\r\n", encoding="utf-8")
    assert list(read_documents(path)) == [
        Document("line 1", text="one"),
        Document("line 2"),
        Document("line 3", text="two"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("d.jsonl", b'{"id": "a", "text": "x"}\n{"id": ', r"d\.jsonl: line 2: not JSON"),
        ("d.jsonl", b"[1]\n", r"line 1: not a JSON object"),
        ("d.jsonl", b'{"text": "x"}\n', r"line 1: no id"),
        ("d.jsonl", b'{"id": true, "text": "x"}\n', r"line 1: no id"),
        ("d.jsonl", b'{"id": "a"}\n', r"line 1: no text"),
        ("d.jsonl", b'{"id": "a", "text": 3}\n', r"line 1: text is not a text"),
        ("d.jsonl", b'{"id": "a", "text": "x", "title": []}\n', r"line 1: title is not a text"),
        ("d.jsonl", b'{"id": "a", "text": "x", "year": "1999"}\n', r"year is not a whole number"),
        ("d.jsonl", b'{"id": "a", "text": "x", "year": 99999999999}\n', r"year is not a whole num"),
        ("d.txt", b"fine\n\xff\xfe\n", r"d\.txt: after line \d: cannot be read as UTF-8"),
        ("d.jsonl.gz", b"not gzip", r"d\.jsonl\.gz: after line 0: cannot be read"),
        ("d.parquet", b"PAR0", r"d\.parquet: not a readable Parquet file"),
        ("d.parquet", b"", r"d\.parquet: not a readable Parquet file"),
        ("d.docx", b"", r"d\.docx: not a file of documents \('\.docx'\)"),
    ],
)
def test_bad_files(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ModernPubMedError, match=message) as caught:
        list(read_documents(path))
    assert caught.value.remedy
    assert "\n" not in str(caught.value)


def test_truncated_gzip(tmp_path):
    path = tmp_path / "d.txt.gz"
    path.write_bytes(gzip.compress(bytes(range(32, 120)) * 5000)[:-20])
    with pytest.raises(ModernPubMedError, match=r"d\.txt\.gz: after line \d+: cannot be read"):
        list(read_documents(path))


def test_other_bad_paths(tmp_path):
    with pytest.raises(ModernPubMedError, match="there is no such file"):
        list(read_documents(tmp_path / "none.txt"))
    with pytest.raises(ModernPubMedError, match=r"neither corpus\.jsonl nor"):
        list(read_documents(tmp_path))
    path = write_parquet(tmp_path / "x.parquet", [{"a": 1}], pa.schema([("a", pa.int64())]))
    with pytest.raises(ModernPubMedError, match="neither articles nor pairs, its columns are a"):
        list(read_documents(path))

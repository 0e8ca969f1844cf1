"""One NLM file to one folder: the same bytes every time, whatever a mirror may hold."""

import gzip
import hashlib
import json
import random
import socket
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from modernpubmed.articles import read_articles
from modernpubmed.errors import ModernPubMedError
from modernpubmed.pubmed import convert as convert_module
from modernpubmed.pubmed import parse
from modernpubmed.pubmed.columns import to_batch
from modernpubmed.pubmed.convert import FileReport, convert
from modernpubmed.pubmed.source import Digests, read_chunks
from modernpubmed.records import (
    AbstractSection,
    Article,
    Correction,
    MeshHeading,
    MeshQualifier,
    OtherAbstract,
    article_to_row,
)
from modernpubmed.schemas import ARTICLE_SCHEMA

FULL = Article(
    7,
    "Title",
    2,
    True,
    "Titel",
    (AbstractSection("One.", "AIM", "OBJECTIVE"), AbstractSection("Two.")),
    "©",
    (OtherAbstract("Publisher", "spa", (AbstractSection("Uno."),), "© 2"),),
    ("ger", "eng"),
    "1998 Dec",
    1998,
    "Journal",
    "J",
    "1234-5678",
    ("Journal Article",),
    (
        MeshHeading("D1", "Liver", True, (MeshQualifier("Q1", "injuries", True),)),
        MeshHeading(None, "x"),
    ),
    (Correction("ErratumIn", "J. 2", 9), Correction("CommentIn")),
    "MEDLINE",
    "10.1/x",
)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_batch_gives_back_its_articles():
    articles = [FULL, Article(8, "bare"), FULL]
    batch = to_batch(articles)
    assert batch.schema.equals(ARTICLE_SCHEMA)
    batch.validate(full=True)
    assert batch.to_pylist() == [
        json.loads(json.dumps(row)) for row in map(article_to_row, articles)
    ]
    assert to_batch([]).num_rows == 0


def test_the_folder_says_what_parse_says(nlm, tmp_path, monkeypatch):
    monkeypatch.setattr(convert_module, "_BATCH", 3)
    monkeypatch.setattr(convert_module, "_ROWS", 7)
    book = "<PubmedBookArticle><BookDocument/></PubmedBookArticle>"
    records = [nlm.record(n, f"t{n}", abstract="a" * n) for n in range(1, 41)]
    source = nlm.write(3, *records[:20], book, *records[20:], nlm.delete(5, 99), nlm.delete(7))
    report = convert(source, tmp_path / "out")
    data = source.read_bytes()
    assert report == FileReport(
        name="pubmed26n0003.xml.gz",
        md5=hashlib.md5(data).hexdigest(),  # noqa: S324
        sha256=hashlib.sha256(data).hexdigest(),
        bytes=len(data),
        md5_checked=True,
        articles=40,
        deletions=3,
        books=1,
        root="PubmedArticleSet",
    )
    assert FileReport.read(tmp_path / "out") == report
    assert FileReport.from_dict(report.as_dict()) == report
    assert list(read_articles(tmp_path / "out")) == list(parse(source))[:40]
    with pq.ParquetFile(tmp_path / "out" / "articles.parquet") as table:
        assert table.schema_arrow.equals(ARTICLE_SCHEMA)
        assert [table.metadata.row_group(n).num_rows for n in range(5)] == [9, 9, 9, 9, 4]
    deletions = pq.read_table(tmp_path / "out" / "deletions.parquet")
    assert deletions.to_pydict() == {"pmid": [5, 99, 7], "version": [1, 1, 1]}
    assert sorted(content(tmp_path / "out")) == [
        "articles.parquet", "deletions.parquet", "report.json",
    ]  # fmt: skip
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_same_bytes_every_time_and_in_every_process(nlm, tmp_path):
    source = nlm.write(1, *(nlm.record(n, f"t{n}") for n in range(300)), nlm.delete(3))
    convert(source, tmp_path / "a")
    convert(source, tmp_path / "b")
    code = "import sys; from pathlib import Path; from modernpubmed.pubmed.convert import convert;"
    subprocess.run(
        [sys.executable, "-c", f"{code} convert(*map(Path, sys.argv[1:]))", source, tmp_path / "c"],
        check=True,
        env={"PYTHONHASHSEED": "5"},
    )
    assert content(tmp_path / "a") == content(tmp_path / "b") == content(tmp_path / "c")


def test_plain_xml_no_md5_no_articles_and_the_old_dtd(tmp_path):
    old = tmp_path / "medline16n0001.xml"
    old.write_text(
        "<MedlineCitationSet><DeleteCitation><PMID>4</PMID></DeleteCitation></MedlineCitationSet>"
    )
    report = convert(old, tmp_path / "out")
    assert (report.root, report.md5_checked) == ("MedlineCitationSet", False)
    assert (report.articles, report.deletions) == (0, 1)
    assert list(read_articles(tmp_path / "out")) == []


def broken(data, at):
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


@pytest.mark.parametrize(
    ("spoil", "without_md5"),
    [
        (lambda data: data[: len(data) // 2], "damaged gzip"),
        (lambda data: broken(data, len(data) // 2), "damaged gzip"),
        (lambda data: b"", "the file is empty"),
        (lambda data: gzip.compress(gzip.decompress(data) + b" "), None),
    ],
    ids=["half", "a flipped byte", "empty", "other but whole"],
)
def test_a_file_that_is_not_what_nlm_published(nlm, tmp_path, spoil, without_md5):
    source = nlm.write(1, *(nlm.record(n) for n in range(50)))
    convert(source, tmp_path / "out")
    before = content(tmp_path / "out")
    source.write_bytes(spoil(source.read_bytes()))
    # That it is not NLM's file comes first, whatever else is wrong with it.
    with pytest.raises(ModernPubMedError, match="its MD5 is") as caught:
        convert(source, tmp_path / "out")
    assert caught.value.file == str(source)
    assert content(tmp_path / "out") == before
    source.with_name(f"{source.name}.md5").unlink()
    if without_md5:
        with pytest.raises(ModernPubMedError, match=without_md5) as caught:
            convert(source, tmp_path / "out")
        assert caught.value.file == str(source)
        assert content(tmp_path / "out") == before
    else:
        assert not convert(source, tmp_path / "out").md5_checked


@pytest.mark.parametrize(
    ("text", "cause", "place"),
    [
        (b"caf\xe9", "not proper UTF-8|Invalid bytes|encoding", "after PMID 1"),
        (b"\xed\xa0\x80", "not proper UTF-8|Invalid bytes|encoding|PCDATA", "after PMID 1"),
        (b"a\x00b", "damaged or truncated XML", "after PMID 1"),
        (b"&#0;", "damaged or truncated XML", "after PMID 1"),
        (b"a < b", "damaged or truncated XML", "after PMID 1"),
        (b"<i>" * 1500 + b"x" + b"</i>" * 1500, "nested too deeply", "record 2"),
    ],
    ids=["latin-1", "surrogate", "nul", "reference to nul", "bare <", "1,500 deep"],
)
def test_bad_text_is_an_error_with_its_place(nlm, tmp_path, text, cause, place):
    # The first record is followed by more than one chunk, so that it is known when the fault is.
    filler = nlm.record(1, abstract="a" * 70_000)
    records = (filler, nlm.record(2, "TEXT"), nlm.record(3))
    data = f"<PubmedArticleSet>{''.join(records)}</PubmedArticleSet>".encode()
    source = nlm.put(1, gzip.compress(data.replace(b"TEXT", text)))
    with pytest.raises(ModernPubMedError, match=cause) as caught:
        convert(source, tmp_path / "out")
    assert caught.value.file == str(source)
    assert place in str(caught.value.record) or "line 1" in caught.value.cause
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("pmid", ["x", "1.5", "-1", "", "٣", "1" * 19, "1" * 5000])
def test_a_pmid_that_is_no_number(nlm, tmp_path, pmid):
    source = nlm.write(1, nlm.record(1), nlm.record(pmid))
    with pytest.raises(ModernPubMedError, match=r"record 2 \(after PMID 1\).*PMID") as caught:
        convert(source, tmp_path / "out")
    assert len(str(caught.value)) < 400


# Time and memory are measured in a fresh process, whose peak nothing else has raised.
MEASURED = """
import json, resource, sys, time
from pathlib import Path
from modernpubmed.errors import ModernPubMedError
from modernpubmed.pubmed.convert import convert
from modernpubmed.pubmed.columns import to_batch
to_batch([])
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before, start = peak(), time.process_time()
try:
    articles = convert(Path(sys.argv[1]), Path(sys.argv[2])).articles
except ModernPubMedError:
    articles = 0
print(json.dumps([articles, (peak() - before) / 1024, time.process_time() - start]))
"""


def measured(source, target):
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, source, target], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def with_entities(nlm, entities, *records):
    head = f'<?xml version="1.0"?><!DOCTYPE PubmedArticleSet [{entities}]>'
    text = f"{head}<PubmedArticleSet>{''.join(records)}</PubmedArticleSet>"
    return nlm.put(1, gzip.compress(text.encode()))


@pytest.mark.parametrize("place", ["title", "abstract", "attribute", "another entity"])
def test_entity_bombs_are_never_expanded(nlm, tmp_path, place):
    # Ten to the ninth of "bomb": libxml2 reckons what an entity would come to, and refuses it.
    entities = '<!ENTITY b0 "bomb">' + "".join(
        f'<!ENTITY b{n} "{f"&b{n - 1};" * 10}">' for n in range(1, 10)
    )
    record = nlm.record(
        1, "T &b9;" if place == "title" else "T", abstract="A &b9;" if place == "abstract" else "A"
    )
    if place == "attribute":
        record = record.replace("<ArticleTitle>", "<ArticleTitle x='&b9;'>")
    if place == "another entity":
        entities, record = f'{entities}<!ENTITY c "&b9;">', record.replace("T", "&c;")
    source = with_entities(nlm, entities, record)
    megabytes, seconds = measured(source, tmp_path / "out")[1:]
    assert not (tmp_path / "out").exists()
    assert megabytes < 30
    assert seconds < 2


def test_entities_stand_as_they_are_and_fetch_nothing(nlm, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/x"
        entities = (
            f'<!ENTITY small "x"><!ENTITY own SYSTEM "{secret.as_uri()}">'
            f'<!ENTITY far SYSTEM "{url}"><!ENTITY % part SYSTEM "{url}"> %part;'
            f'<!ENTITY % here SYSTEM "{secret.as_uri()}"> %here;'
        )
        record = nlm.record(1, "T &small; &own; &far;", abstract="A &own; &alpha;")
        convert(with_entities(nlm, entities, record), tmp_path / "out")
        with pytest.raises(TimeoutError):
            server.accept()
    [article] = read_articles(tmp_path / "out")
    assert article.title == "T &small; &own; &far;"
    assert article.abstract == "A &own; α"


@pytest.mark.parametrize(
    ("size", "markup", "most"), [(50_000_000, "", 500), (10_000_000, "<i>x</i>", 300)]
)
def test_an_abstract_of_50_megabytes(nlm, tmp_path, size, markup, most):
    words = f"An abstract far too long, {markup} with æ. "
    abstract = words * (size // len(words.encode()))
    records = "".join((nlm.record(1), nlm.record(2, abstract=abstract), nlm.record(3)))
    text = f"<PubmedArticleSet>{records}</PubmedArticleSet>".encode()
    source = nlm.put(1, gzip.compress(text, compresslevel=1))
    articles, megabytes, seconds = measured(source, tmp_path / "out")
    assert articles == 3
    # One record is held whole: as a tree, as text and as Arrow. Here it is 390 and 170 MB, and
    # takes a second; markup every 40 letters is what costs most.
    assert megabytes < most
    assert seconds < 30
    found = list(read_articles(tmp_path / "out"))
    assert len(found[1].abstract) > 0.7 * size
    assert [article.pmid for article in found] == [1, 2, 3]


def test_memory_does_not_grow_with_the_file(nlm, tmp_path):
    text = "In a cohort of adults the risk was lower with early review than with usual care. " * 15
    small, large = (
        nlm.write(n, *(nlm.record(k, abstract=f"{k} {text}") for k in range(records)))
        for n, records in ((1, 6_000), (2, 24_000))
    )
    first, second = measured(small, tmp_path / "1")[1], measured(large, tmp_path / "2")[1]
    assert second < first + 20, (first, second)


def test_a_target_that_cannot_be_written(nlm, tmp_path):
    source = nlm.write(1, nlm.record(1))
    (tmp_path / "file").write_text("")
    with pytest.raises(ModernPubMedError, match="cannot be written"):
        convert(source, tmp_path / "file" / "out")


def test_a_report_that_is_not_ours(tmp_path):
    for text in ("", "[]", "{}", '{"name": 1}'):
        (tmp_path / "report.json").write_text(text)
        with pytest.raises(ModernPubMedError, match="no readable report"):
            FileReport.read(tmp_path)


def test_gzip_in_any_pieces(tmp_path):
    # Members of every size, cut anywhere, zeros after the last: read as the standard library does.
    random.seed(5)
    for _ in range(40):
        parts = [random.randbytes(random.choice((0, 1, 300, 70_000))) * 2 for _ in range(4)]
        data = b"".join(map(gzip.compress, [b"start", *parts])) + b"\0" * random.choice((0, 5, 512))
        path = tmp_path / "a.gz"
        path.write_bytes(data)
        digests = Digests()
        assert b"".join(read_chunks(path, digests)) == gzip.decompress(data)
        assert digests.size == len(data)
        assert digests.sha256.hexdigest() == hashlib.sha256(data).hexdigest()


def test_a_gzip_bomb_is_read_in_pieces(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"<a>" + bytes(50_000_000)))
    assert max(map(len, read_chunks(path))) <= 1 << 16

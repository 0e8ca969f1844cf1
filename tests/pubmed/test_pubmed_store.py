import gzip
import hashlib

import pyarrow.parquet as pq
import pytest

from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import Manifest, sha256
from modernpubmed.pubmed import convert, parse_files, read_articles
from modernpubmed.schemas import ARTICLE_SCHEMA


def record(pmid, title, version=1):
    return (
        f"<PubmedArticle><MedlineCitation><PMID Version='{version}'>{pmid}</PMID>"
        f"<Article><ArticleTitle>{title}</ArticleTitle></Article>"
        f"</MedlineCitation></PubmedArticle>"
    )


def delete(*pmids, version=1):
    inner = "".join(f"<PMID Version='{version}'>{pmid}</PMID>" for pmid in pmids)
    return f"<DeleteCitation>{inner}</DeleteCitation>"


@pytest.fixture
def nlm(tmp_path):
    def write(number, *records):
        path = tmp_path / f"pubmed26n{number:04}.xml.gz"
        text = f"<PubmedArticleSet>{''.join(records)}</PubmedArticleSet>".encode()
        path.write_bytes(gzip.compress(text))
        return path

    return write


def state(out):
    return [(a.pmid, a.version, a.title) for a in read_articles(out)]


def test_latest_state(nlm, tmp_path):
    first = nlm(1, record(1, "a"), record(2, "b"), record(3, "c"), record(4, "d"))
    book = "<PubmedBookArticle><BookDocument/></PubmedBookArticle>"
    second = nlm(2, record(2, "b, revised"), record(5, "e"), book, delete(3, 99))
    third = nlm(3, record(3, "c is back"), record(1, "a, revised"), delete(5))
    out = tmp_path / "out"
    seen = []
    # in any order: NLM's own counts
    manifest = parse_files(
        [third, first, second], out, progress=lambda path, n: seen.append((path.name[10:13], n))
    )
    assert state(out) == [
        (4, 1, "d"),
        (2, 1, "b, revised"),
        (3, 1, "c is back"),
        (1, 1, "a, revised"),
    ]
    assert seen == [("001", 4), ("002", 6), ("003", 8)]
    assert manifest.counts == {
        "files": 3, "md5 checked": 0, "articles read": 8, "articles": 4, "deletions": 3,
    }  # fmt: skip
    assert manifest.dropped == {"superseded": 2, "deleted": 2, "older version": 0, "book": 1}
    assert manifest.inputs[first.name] == sha256(first)
    assert Manifest.read(out) == manifest
    assert pq.read_table(out / "deletions.parquet").to_pylist() == [
        {"pmid": 3, "version": 1, "file": second.name},
        {"pmid": 99, "version": 1, "file": second.name},
        {"pmid": 5, "version": 1, "file": third.name},
    ]
    assert sorted(path.name for path in out.iterdir()) == [
        "articles.parquet", "deletions.parquet", "manifest.json",
    ]  # fmt: skip
    assert pq.read_schema(out / "articles.parquet").equals(ARTICLE_SCHEMA)


def test_versions(nlm, tmp_path):
    first = nlm(1, record(1, "v2", 2), record(1, "v1", 1), record(2, "v2", 2), record(3, "v2", 2))
    second = nlm(2, record(3, "v1 again", 1), record(4, "v1"), record(4, "v2", 2))
    third = nlm(3, delete(1), delete(2, version=2), delete(4, version=2))
    manifest = parse_files([first, second, third], tmp_path / "out")
    # 1: its higher version, which deleting version 1 leaves alone; 2: deleted; 3: the higher one,
    # though the lower came later; 4: the lower one, now that the higher is deleted
    assert state(tmp_path / "out") == [(1, 2, "v2"), (3, 2, "v2"), (4, 1, "v1")]
    assert manifest.dropped == {"superseded": 0, "deleted": 3, "older version": 1, "book": 0}


def test_equals_a_plain_dictionary_over_many_row_groups(nlm, tmp_path, monkeypatch):
    monkeypatch.setattr(convert, "_ROWS", 7)
    expected, files = {}, []
    for number in range(1, 6):
        pmids = [(number * 13 + k * 7) % 50 + 1 for k in range(25)]
        gone = [(number * 5 + k) % 50 + 1 for k in range(6)]
        for pmid in pmids:
            expected[pmid] = f"{pmid} in {number}"
        for pmid in gone:
            expected.pop(pmid, None)
        files.append(nlm(number, *(record(p, f"{p} in {number}") for p in pmids), delete(*gone)))
    manifest = parse_files(files, tmp_path / "out")
    assert {a.pmid: a.title for a in read_articles(tmp_path / "out")} == expected
    left = (
        manifest.counts["articles"] + manifest.dropped["superseded"] + manifest.dropped["deleted"]
    )
    assert left == manifest.counts["articles read"] == 125


def test_no_articles_at_all(nlm, tmp_path):
    parse_files([nlm(1, delete(1))], tmp_path / "out")
    assert state(tmp_path / "out") == []


def test_md5_is_checked(nlm, tmp_path):
    path = nlm(1, record(1, "a"))
    sidecar = tmp_path / f"{path.name}.md5"
    digest = hashlib.md5(path.read_bytes()).hexdigest()  # noqa: S324
    sidecar.write_text(f"MD5({path.name})= {digest}\n")
    assert parse_files([path], tmp_path / "out").counts["md5 checked"] == 1
    sidecar.write_text(f"MD5({path.name})= {'0' * 32}\n")
    with pytest.raises(ModernPubMedError, match="MD5"):
        parse_files([path], tmp_path / "again")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:-20],
        lambda _: b"",
        lambda _: gzip.compress(b"<PubmedArticleSet><PubmedArticle>"),
        lambda _: gzip.compress(b"<html/>"),
        lambda _: gzip.compress(b"<PubmedArticleSet><PubmedArticle/></PubmedArticleSet>"),
    ],
    ids=["gzip", "empty", "truncated", "root", "no PMID"],
)
def test_bad_input_leaves_nothing_and_spares_what_was_there(nlm, tmp_path, spoil):
    good, bad = nlm(1, record(1, "a")), nlm(2, record(2, "b"))
    out = tmp_path / "made" / "out"
    parse_files([good], out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    bad.write_bytes(spoil(bad.read_bytes()))
    for target in (out, tmp_path / "made" / "new"):
        with pytest.raises(ModernPubMedError) as caught:
            parse_files([good, bad], target)
        assert caught.value.file == str(bad)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_missing_file_and_no_file(tmp_path):
    with pytest.raises(ModernPubMedError, match="cannot be read"):
        parse_files([tmp_path / "none.xml"], tmp_path / "out")
    with pytest.raises(ModernPubMedError, match="no file given"):
        parse_files([], tmp_path / "out")


def test_a_folder_of_other_files_is_never_replaced(nlm, tmp_path):
    path = nlm(1, record(1, "a"))
    with pytest.raises(ModernPubMedError, match="the folder holds other files"):
        parse_files([path], tmp_path)
    with pytest.raises(ModernPubMedError, match="there is a file here"):
        parse_files([path], path)
    assert path.exists()


def test_read_articles_refuses_other_tables(tmp_path):
    with pytest.raises(ModernPubMedError, match="no readable table of articles"):
        list(read_articles(tmp_path))
    other = tmp_path / "a.parquet"
    other.write_bytes(b"PAR1 no")
    with pytest.raises(ModernPubMedError, match="no readable table of articles"):
        list(read_articles(other))
    pq.write_table(ARTICLE_SCHEMA.empty_table().select(["pmid"]), other)
    with pytest.raises(ModernPubMedError, match="not those of articles"):
        list(read_articles(other))

"""The verb ``consolidate``: which files count, what the latest state is, what an update costs."""

import gzip
import json
import random
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from modernpubmed.articles import article_batches, is_corpus
from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import Manifest, sha256
from modernpubmed.pairs.store import read_records
from modernpubmed.pairs.suite import title_abstract_suite
from modernpubmed.pubmed import corpus as corpus_module
from modernpubmed.pubmed import keys, parse_files, read_articles
from modernpubmed.pubmed.consolidate import consolidate
from modernpubmed.pubmed.corpus import Corpus
from modernpubmed.pubmed.lock import alone
from modernpubmed.pubmed.plain import write_plain
from modernpubmed.pubmed.validate import validate
from modernpubmed.search.documents import read_documents


def state(out):
    return {a.pmid: (a.version, a.title) for a in read_articles(out)}


def tree(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def run(inputs, out, **options):
    return consolidate(
        [inputs] if not isinstance(inputs, list) else inputs, out, workers=1, **options
    )


@pytest.fixture
def out(tmp_path):
    return tmp_path / "corpus"


def test_latest_state_and_counts(nlm, out):
    book = "<PubmedBookArticle><BookDocument/></PubmedBookArticle>"
    first = nlm.write(1, *(nlm.record(n, f"{n}") for n in range(1, 6)), nlm.record(9, "9 v2", 2))
    nlm.write(2, nlm.record(2, "2 revised"), nlm.record(9, "9 v1"), book, nlm.delete(3, 99))
    # Within a file the records come first, wherever the deletion stands.
    nlm.write(3, nlm.delete(4, 5), nlm.record(3, "3 is back"), nlm.record(4, "4 again"))
    manifest = run(nlm.folder, out)
    assert state(out) == {
        1: (1, "1"), 2: (1, "2 revised"), 3: (1, "3 is back"), 9: (2, "9 v2"),
    }  # fmt: skip
    assert manifest.counts == {
        "files": 3, "md5 checked": 3, "articles read": 10, "articles": 4, "revisions": 2,
        "deletions": 4, "deletions of nothing": 1, "failures": 0,
    }  # fmt: skip
    assert manifest.dropped == {"superseded": 2, "deleted": 3, "older version": 1, "book": 1}
    assert manifest.settings["as_of"] == "pubmed26n0003"
    assert [file["live"] for file in manifest.settings["files"]] == [2, 1, 1]
    assert manifest.inputs[first.name] == sha256(first)
    assert Manifest.read(out) == manifest
    assert is_corpus(out)
    columns = [batch.schema.names for batch in article_batches(out, ["pmid", "title"])]
    assert columns == [["pmid", "title"]] * 3


def test_the_same_as_parse(nlm, out, tmp_path):
    for number in range(1, 6):
        write_random(nlm, number, seed=number)
    run(nlm.folder, out)
    files = sorted((nlm.folder / "updatefiles").glob("*.gz"))
    parsed = parse_files(files, tmp_path / "parsed")
    assert list(read_articles(out)) == list(read_articles(tmp_path / "parsed"))
    dropped = Manifest.read(out).dropped
    assert parsed.dropped == dropped
    assert min(dropped[name] for name in ("superseded", "deleted", "older version")) > 0


def write_random(nlm, number, *, seed, pmids=60, records=25, year=26):
    chance = random.Random(seed)
    written = [
        nlm.record(chance.randint(1, pmids), f"{number}.{place}", chance.choice((1, 1, 1, 2)))
        for place in range(records)
    ]
    gone = nlm.delete(*(chance.randint(1, pmids) for _ in range(6)))
    return nlm.write(number, *written, gone, year=year)


def test_file_by_file_in_any_grouping_gives_the_same_bytes(nlm, out, tmp_path, monkeypatch):
    # Small ranges of PMIDs, so that there are several.
    monkeypatch.setattr(keys, "_EVENTS", 40)
    monkeypatch.setattr(keys, "_SAMPLE", 2)
    files = [write_random(nlm, number, seed=number) for number in range(1, 9)]
    run(files, tmp_path / "at once")
    for group in (files[:1], files[1:2], files[2:5], [files[5], files[1]], files):
        run(group, out)
    assert tree(out) == tree(tmp_path / "at once")
    # Files between others that count already: the state changes as if they had always been there.
    run([files[0], files[3], files[7]], tmp_path / "filled", allow_gaps=True)
    assert Manifest.read(tmp_path / "filled").settings["gaps"] == [
        "pubmed26n0002 to pubmed26n0003", "pubmed26n0005 to pubmed26n0007",
    ]  # fmt: skip
    run(files, tmp_path / "filled")
    assert tree(tmp_path / "filled") == tree(out)
    assert all(check.outcome != "fail" for check in validate(out, nlm.folder))


def test_looking_up_and_computing_everything_agree(nlm, out, tmp_path, monkeypatch):
    files = [write_random(nlm, number, seed=number, pmids=500) for number in range(1, 9)]
    run(files[:7], out)
    looked = []
    real = corpus_module.touched
    monkeypatch.setattr(corpus_module, "touched", lambda f: looked.append(f) or real(f))
    run(files, out)
    assert len(looked) == 1
    monkeypatch.setattr(corpus_module, "_LOOKED_UP", 0)
    run(files[:7], tmp_path / "other")
    run(files, tmp_path / "other")
    assert len(looked) == 1
    assert tree(out) == tree(tmp_path / "other")


def test_an_update_touches_nothing_of_the_other_files(nlm, out, monkeypatch):
    for number in range(1, 21):
        write_random(nlm, number, seed=number, pmids=2_000, records=60)
    run(nlm.folder, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    write_random(nlm, 21, seed=21, pmids=2_000, records=10)
    asked = []
    real = keys.load_keys
    monkeypatch.setattr(keys, "load_keys", lambda path: asked.append(path) or real(path))
    converted = []
    real_all = consolidate.__globals__["convert_all"]
    monkeypatch.setitem(
        consolidate.__globals__,
        "convert_all",
        lambda jobs, **options: converted.extend(jobs) or real_all(jobs, **options),
    )
    run(nlm.folder, out)
    assert [source.name for source, _ in converted] == ["pubmed26n0021.xml.gz"]
    after = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    written = {path for path in after if before.get(path) != after[path]}
    names = sorted(path.relative_to(out).parts[0] for path in written)
    assert names == ["files", "files", "files", "keys", "live", "manifest.json"]
    # The bits are one in eight of a row's byte; the manifest names every file.
    rows = sum(file["articles"] for file in Manifest.read(out).settings["files"])
    live = next(path for path in written if path.parent.name == "live")
    assert live.stat().st_size < rows / 8 + 21 + 200
    # Each other file's keys are opened for the old state and for the new one, the new file's once
    # more; nothing else is opened.
    assert len(asked) == 20 + 21 + 1


def test_nothing_new_writes_nothing(nlm, out):
    for number in range(1, 4):
        write_random(nlm, number, seed=number)
    run(nlm.folder, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    run(nlm.folder, out)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_only_the_new_file_need_be_given(nlm, out):
    run(nlm.write(1, nlm.record(1), nlm.record(2)), out)
    run(nlm.write(2, nlm.delete(1)), out)
    assert list(state(out)) == [2]


def test_republished_bytes_under_an_old_name(nlm, out, tmp_path):
    nlm.write(1, nlm.record(1, "old"), nlm.record(2, "old"))
    nlm.write(2, nlm.record(2, "revised"))
    run(nlm.folder, out)
    nlm.write(1, nlm.record(1, "new"), nlm.record(3, "new"))
    run(nlm.folder, out)
    assert state(out) == {1: (1, "new"), 2: (1, "revised"), 3: (1, "new")}
    run(nlm.folder, tmp_path / "at once")
    assert tree(out) == tree(tmp_path / "at once")


def test_republished_without_a_checksum(nlm, out):
    run(nlm.write(1, nlm.record(1, "old"), md5=False), out)
    # As long as before: only the bytes tell.
    run(nlm.put(1, gzip.compress(b"<PubmedArticleSet/>"), md5=False), out)
    assert state(out) == {}


# -- what holds things up ------------------------------------------------------------------------


def edited(old, new):
    return lambda data: gzip.compress(gzip.decompress(data).replace(old, new))


BAD = {
    "md5": (lambda data: data, "0" * 32, "its MD5 is"),
    "half": (lambda data: data[: len(data) // 2], True, "gzip"),
    "half of the XML": (edited(b"</PubmedArticleSet>", b""), True, "XML"),
    "PMID": (edited(b">7<", b">x<"), True, "no number"),
    "UTF-8": (edited(b"a title", b"\xff"), True, "XML"),
    "entity": (edited(b">7<", b">&seven;<"), True, "XML"),
    "root": (lambda _: gzip.compress(b"<html/>"), True, "its root element is html"),
    "empty": (lambda _: b"", True, "empty"),
    "a PMID beyond all": (edited(b">7<", b">99999999999999999999<"), True, "PMID"),
    "no checksum in it": (lambda data: data, "none", "no MD5 checksum"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_file_holds_up_what_comes_after_it(nlm, out, tmp_path, fault):
    spoil, md5, said = BAD[fault]
    for number in (1, 2, 4, 5):
        write_random(nlm, number, seed=number)
    good = nlm.write(3, nlm.record(7), nlm.delete(1, 2, 3)).read_bytes()
    nlm.put(3, spoil(good), md5=md5)
    with pytest.raises(ModernPubMedError, match=said) as caught:
        run(nlm.folder, out)
    assert "pubmed26n0003" in caught.value.file
    assert "the corpus is as of pubmed26n0002" in caught.value.cause
    settings = Manifest.read(out).settings
    assert [file["name"] for file in settings["files"]] == [
        "pubmed26n0001.xml.gz", "pubmed26n0002.xml.gz",
    ]  # fmt: skip
    assert list(settings["unapplied"]) == [f"pubmed26n000{n}.xml.gz" for n in (3, 4, 5)]
    assert settings["unapplied"]["pubmed26n0005.xml.gz"] == "waits for pubmed26n0003"
    assert Manifest.read(out).counts["failures"] == 1
    assert [check.name for check in validate(out) if check.outcome == "fail"] == []
    # The others' work is kept: their folders are used as they are once the file is whole.
    waiting = sorted((out / "files").glob("pubmed26n000[45]-*/articles.parquet"))
    assert len(waiting) == 2
    times = [path.stat().st_mtime_ns for path in waiting]
    nlm.put(3, good)
    run(nlm.folder, out)
    assert [path.stat().st_mtime_ns for path in waiting] == times
    run(nlm.folder, tmp_path / "at once")
    assert tree(out) == tree(tmp_path / "at once")


def test_a_file_that_goes_bad_after_it_counted_changes_nothing(nlm, out):
    for number in (1, 2):
        write_random(nlm, number, seed=number)
    run(nlm.folder, out)
    before = state(out)
    good = nlm.path(1).read_bytes()
    nlm.put(1, good[:-5], md5=True)
    write_random(nlm, 3, seed=3)
    with pytest.raises(ModernPubMedError, match="damaged gzip"):
        run(nlm.folder, out)
    assert state(out) == before
    assert Manifest.read(out).settings["as_of"] == "pubmed26n0002"
    nlm.put(1, good)
    assert run(nlm.folder, out).settings["as_of"] == "pubmed26n0003"


def test_several_bad_files_are_all_named(nlm, out):
    nlm.write(1, nlm.record(1))
    nlm.put(2, b"")
    nlm.put(4, b"no")
    with pytest.raises(ModernPubMedError) as caught:
        run(nlm.folder, out)
    text = str(caught.value)
    assert "pubmed26n0002" in text
    assert "missing before it: pubmed26n0003" in text
    assert "pubmed26n0004" in text
    assert list(state(out)) == [1]


def test_a_missing_middle_file(nlm, out):
    for number in (1, 2, 5, 6):
        nlm.write(number, nlm.record(number))
    with pytest.raises(
        ModernPubMedError, match="missing before it: pubmed26n0003 to pubmed26n0004"
    ):
        run(nlm.folder, out)
    assert list(state(out)) == [1, 2]
    nlm.write(3, nlm.record(3))
    with pytest.raises(ModernPubMedError, match="missing before it: pubmed26n0004"):
        run(nlm.folder, out)
    assert list(state(out)) == [1, 2, 3]
    assert run(nlm.folder, out, allow_gaps=True).settings["gaps"] == ["pubmed26n0004"]
    # A gap that was allowed stays allowed.
    nlm.write(7, nlm.record(7))
    assert list(run(nlm.folder, out).settings["gaps"]) == ["pubmed26n0004"]
    assert list(state(out)) == [1, 2, 3, 5, 6, 7]


def test_a_missing_first_file(nlm, out):
    nlm.write(3, nlm.record(3))
    with pytest.raises(ModernPubMedError, match=r"0001 to pubmed26n0002; .*nothing yet"):
        run(nlm.folder, out)
    with pytest.raises(ModernPubMedError, match="no file has been applied"):
        state(out)
    assert [str(check.outcome) for check in validate(out)] == ["fail"]


# -- years ---------------------------------------------------------------------------------------


def test_a_newer_baseline_replaces_everything(nlm, out, tmp_path):
    for number in (1, 2):
        nlm.write(number, *(nlm.record(10 * number + k) for k in range(5)), year=25)
    run(nlm.folder, out)
    # 24 is gone without a deletion.
    nlm.write(1, *(nlm.record(n) for n in (10, 11, 12, 13, 14, 20, 21, 22, 23)), year=26)
    manifest = run(nlm.folder, out)
    assert 24 not in state(out)
    assert manifest.settings["as_of"] == "pubmed26n0001"
    assert list(manifest.settings["unapplied"]) == ["pubmed25n0001.xml.gz", "pubmed25n0002.xml.gz"]
    run(nlm.path(1), tmp_path / "at once")
    new = tree(out)
    same = tree(tmp_path / "at once")
    assert new.pop("manifest.json") != same.pop("manifest.json")  # the old files were given, too
    assert new == same
    with pytest.raises(
        ModernPubMedError, match="of an older year than the corpus, which is of 2026"
    ):
        run(nlm.path(1, 25), out)
    assert 24 not in state(out)


@pytest.mark.parametrize("fault", ["bad", "gap", "less"])
def test_a_newer_baseline_that_is_not_whole_waits(nlm, out, fault):
    nlm.write(1, *(nlm.record(n) for n in range(1, 21)), year=25)
    run(nlm.folder, out)
    before = state(out)
    everything = [nlm.record(n) for n in range(1, 20)]
    nlm.write(1, *everything[:10])
    if fault == "bad":
        nlm.put(2, b"half")
    elif fault == "gap":
        nlm.write(3, *everything[10:])
    with pytest.raises(ModernPubMedError):
        run(nlm.folder, out)
    assert state(out) == before
    assert Manifest.read(out).settings["as_of"] == "pubmed25n0001"
    assert "pubmed26n0001.xml.gz" in Manifest.read(out).settings["unapplied"]
    nlm.write(2, *everything[10:])
    nlm.path(3).unlink(missing_ok=True)
    assert run(nlm.folder, out).settings["as_of"] == "pubmed26n0002"
    assert len(state(out)) == 19
    assert not list((out / "files").glob("pubmed25*"))


# -- inputs and folders ---------------------------------------------------------------------------


def test_inputs_that_are_not_nlm_files(nlm, out, tmp_path):
    path = nlm.write(1, nlm.record(1))
    with pytest.raises(ModernPubMedError, match="no file given"):
        run([], out)
    with pytest.raises(ModernPubMedError, match="no file of NLM's in it"):
        run(tmp_path, out)
    other = tmp_path / "mine.xml.gz"
    other.write_bytes(path.read_bytes())
    with pytest.raises(ModernPubMedError, match="does not say where"):
        run([path, other], out)
    twice = tmp_path / path.name
    twice.write_bytes(path.read_bytes())
    with pytest.raises(ModernPubMedError, match="given twice"):
        run([path, twice], out)
    assert not out.exists()
    with pytest.raises(ModernPubMedError, match="cannot be read"):
        run(nlm.path(7), out)


def test_folders_of_something_else_are_left_alone(nlm, out, tmp_path):
    path = nlm.write(1, nlm.record(1))
    (out / "files").mkdir(parents=True)
    (out / "files" / "precious").touch()
    with pytest.raises(ModernPubMedError, match="this is no corpus"):
        run(path, out)
    assert (out / "files" / "precious").exists()
    with pytest.raises(ModernPubMedError, match="there is a file here"):
        run(path, path)
    parse_files([path], tmp_path / "parsed")
    with pytest.raises(ModernPubMedError, match="this is no corpus"):
        Corpus.read(tmp_path / "parsed")


def test_two_runs_at_a_time(nlm, out, monkeypatch):
    path = nlm.write(1, nlm.record(1))
    monkeypatch.setattr("modernpubmed.pubmed.consolidate._PATIENCE", 0.2)
    with alone(out, "corpus"), pytest.raises(ModernPubMedError, match="another run is at work"):
        run(path, out)
    run(path, out)


def test_what_killed_runs_left_is_removed(nlm, out):
    run(nlm.write(1, nlm.record(1)), out)
    clean = tree(out)
    for left in (
        ".manifest.json.abc/x",
        "files/.pubmed26n0001-x.abc/x",
        "live/old.npy",
        "keys/.a/b",
    ):
        (out / left).parent.mkdir(parents=True, exist_ok=True)
        (out / left).touch()
    assert [check.outcome for check in validate(out) if "left over" in check.name] == ["warn"]
    run(nlm.folder, out)
    assert tree(out) == clean


def test_a_folder_that_is_gone_is_made_again(nlm, out):
    run(nlm.write(1, nlm.record(1)), out)
    before = tree(out)
    shutil.rmtree(next((out / "files").iterdir()))
    with pytest.raises(ModernPubMedError, match="no readable table"):
        state(out)
    run(nlm.folder, out)
    assert tree(out) == before


def test_missing_keys_are_made_again(nlm, out):
    run(nlm.write(1, nlm.record(1), nlm.record(2)), out)
    for path in (out / "keys").iterdir():
        path.unlink()
    run(nlm.write(2, nlm.record(2)), out)
    assert len(list((out / "keys").iterdir())) == 2


def test_damage_is_said(nlm, out):
    nlm.write(1, nlm.record(1), nlm.record(2))
    run(nlm.folder, out)
    live = next((out / "live").iterdir())
    np.save(live, np.zeros(5, np.uint8))
    with pytest.raises(ModernPubMedError, match="5 bytes of bits"):
        state(out)
    live.write_bytes(b"")
    with pytest.raises(ModernPubMedError, match="cannot be read"):
        state(out)
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["settings"]["layout"] = 99
    (out / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModernPubMedError, match="layout 99"):
        run(nlm.folder, out)


def test_who_reads_articles_reads_a_corpus(nlm, out):
    abstract = "Patients with gout were followed up for a year, and their children too. " * 5
    nlm.write(
        1, *(nlm.record(n, f"Title of the article {n}", 1, abstract + str(n)) for n in range(1, 9))
    )
    nlm.write(2, nlm.record(2, "The revised title of 2", 1, abstract + "2"), nlm.delete(3))
    run(nlm.folder, out)
    expected = [1, 4, 5, 6, 7, 8, 2]
    assert [article.pmid for article in read_records(out)] == expected
    assert [document.pmid for document in read_documents(out)] == expected
    suite = title_abstract_suite(out, queries=7, distractors=0)
    assert suite.queries[1] == "The revised title of 2"
    assert suite.sources == {out.name: sha256(out / "manifest.json")}


def test_plain_parquet(nlm, out, tmp_path):
    for number in range(1, 5):
        write_random(nlm, number, seed=number)
    nlm.write(5, nlm.delete(1))
    run(nlm.folder, out)
    plain = tmp_path / "plain"
    manifest = write_plain(out, plain)
    rows = [pq.read_table(path).num_rows for path in sorted((plain / "articles").iterdir())]
    assert manifest.counts == {"files": len(rows), "articles": sum(rows)}
    assert [
        a for path in sorted((plain / "articles").iterdir()) for a in read_articles(path)
    ] == list(read_articles(out))
    write_plain(out, plain)
    with pytest.raises(ModernPubMedError, match="this is no plain corpus"):
        write_plain(out, tmp_path)


def test_a_reader_that_has_begun_sees_one_state(nlm, out):
    # Whoever began to read reads the state that was: what it needs is open or not yet removed.
    nlm.write(1, *(nlm.record(n, "old") for n in range(1, 4)))
    run(nlm.folder, out)
    reading = read_articles(out)
    assert next(reading).title == "old"
    run(nlm.write(2, nlm.record(2, "new")), out)
    assert [article.title for article in reading] == ["old", "old"]
    assert list((out / "live").iterdir()) == [out / Manifest.read(out).settings["live"]]

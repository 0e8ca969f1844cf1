import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import Manifest, sha256
from modernpubmed.pairs import build, build_pairs, read_pairs, split_of, store, write_pairs
from modernpubmed.records import (
    AbstractSection,
    Article,
    MeshHeading,
    Pair,
    article_to_row,
    pair_to_row,
)
from modernpubmed.schemas import ARTICLE_SCHEMA, MINED_SCHEMA, PAIR_SCHEMA

PAIRS = [
    Pair("Title é", "Abstract one", 12, source="here", year=2001),
    Pair("Title two", "Abstract two", 13),
    Pair("Title three", "Abstract\u2028three", concept="X:1", mesh=("Liver", "Mice"), links=(5, 6)),
]
ROWS = [
    {"pmid": "12", "title": "Title é", "abstract": "Abstract one", "source": "here", "year": 2001},
    {"pmid": 13, "title": "Title two", "abstract": "Abstract two", "extra": True},
    {"pmid": None, "title": "Title three", "abstract": "Abstract\u2028three",
     "concept": "X:1", "mesh": ["Liver", "Mice"], "links": [5, 6]},
]  # fmt: skip
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
FORMS = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "zstd": lambda data: zstandard.compress(data),
    "zstd frames": lambda data: zstandard.compress(data[:100]) + zstandard.compress(data[100:]),
}


def text(number):
    return (
        f"In study {number} we gave the invented drug to {number} mice and followed them "
        f"for a year. The survival of the treated mice was {number} days longer "
        "than that of the controls, and side effects were rare. The drug is ready for a trial."
    )


def articles(folder, *values):
    folder.mkdir(exist_ok=True)
    rows = [article_to_row(value) for value in values]
    pq.write_table(pa.Table.from_pylist(rows, schema=ARTICLE_SCHEMA), folder / "articles.parquet")
    return folder


def article(pmid, title=None, **fields):
    fields = {"sections": (AbstractSection(text(pmid)),), "languages": ("eng",), **fields}
    return Article(pmid, title or f"Study number {pmid}.", **fields)


@pytest.mark.parametrize("form", FORMS)
def test_json_lines_are_read_whatever_their_name(tmp_path, form):
    path = tmp_path / "pairs"
    path.write_bytes(FORMS[form](LINES))
    assert list(read_pairs(path)) == PAIRS
    path.write_bytes(FORMS[form](LINES.rstrip(b"\n") + b"\n\n"))
    assert list(read_pairs(path)) == PAIRS


def test_long_files_cross_the_pieces_they_are_read_in(tmp_path, monkeypatch):
    monkeypatch.setattr("modernpubmed.lines._CHUNK", 11)
    for name, form in FORMS.items():
        path = tmp_path / name
        path.write_bytes(form(LINES))
        assert list(read_pairs(path)) == PAIRS


def test_parquet_round_trip(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_ROWS", 20)
    many = PAIRS + [Pair(f"t{n}", f"a{n}", n) for n in range(90)]
    assert write_pairs(iter(many), tmp_path / "pairs.parquet") == 93
    assert list(read_pairs(tmp_path / "pairs.parquet")) == many
    assert list(read_pairs(tmp_path)) == many
    assert pq.read_schema(tmp_path / "pairs.parquet").equals(PAIR_SCHEMA)
    assert write_pairs([], tmp_path / "none.parquet") == 0
    assert list(read_pairs(tmp_path / "none.parquet")) == []


def test_older_and_foreign_tables_are_read(tmp_path):
    table = pa.Table.from_pylist([pair_to_row(pair) for pair in PAIRS], schema=PAIR_SCHEMA)
    path = tmp_path / "pairs.parquet"

    def read(other):
        pq.write_table(other, path)
        return list(read_pairs(path))

    older = table.drop_columns(["concept", "mesh", "links"])
    assert read(older) == [*PAIRS[:2], Pair(PAIRS[2].anchor, PAIRS[2].positive)]
    bare = [Pair(pair.anchor, pair.positive) for pair in PAIRS]
    assert read(table.select(["positive", "anchor"])) == bare
    # Types as pandas writes them, and nulls where a list is not known.
    loose = pa.table(
        {
            "anchor": pa.array([pair.anchor for pair in PAIRS], pa.large_string()),
            "positive": [pair.positive for pair in PAIRS],
            "pmid": pa.array([12, 13, None], pa.int32()),
            "links": pa.array([None, [None, 3], []], pa.list_(pa.int32())),
            "mesh": pa.nulls(3),
        }
    )
    assert [(pair.pmid, pair.links, pair.mesh) for pair in read(loose)] == [
        (12, (), ()), (13, (3,), ()), (None, (), ()),
    ]  # fmt: skip
    mined = [
        {**pair_to_row(pair), "negatives": ["x"], "negative_scores": [0.5], "positive_score": 0.9}
        for pair in PAIRS
    ]
    assert read(pa.Table.from_pylist(mined, schema=MINED_SCHEMA)) == PAIRS


@pytest.mark.parametrize(
    ("table", "cause", "record"),
    [
        ({"anchor": ["a", None], "positive": ["b", "c"]}, "the anchor is null", "row 2"),
        ({"anchor": ["a"], "positive": pa.nulls(1, pa.string())}, "the positive is null", "row 1"),
        ({"anchor": ["a"], "positive": ["b"], "kind": pa.nulls(1, pa.string())},
         "the kind is null", "row 1"),
        ({"anchor": ["a"], "positive": ["b"], "pmid": ["PMC1"]},
         "the column pmid is string, not int64", None),
        ({"anchor": ["a"], "positive": ["b"], "mesh": ["Liver"]}, "the column mesh is", None),
        ({"anchor": ["a"], "positive": ["b"], "Kind": ["c"]}, "its columns (anchor, posi", None),
        ({"anchor": ["a"]}, "its columns (anchor) are those of neither", None),
    ],
)  # fmt: skip
def test_bad_tables_are_refused(tmp_path, table, cause, record):
    path = tmp_path / "pairs.parquet"
    pq.write_table(pa.table(table), path)
    with pytest.raises(ModernPubMedError) as caught:
        list(read_pairs(path))
    assert caught.value.cause.startswith(cause)
    assert (caught.value.file, caught.value.record) == (str(path), record)
    assert caught.value.remedy


def test_writing_is_all_or_nothing(tmp_path):
    def broken():
        yield PAIRS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_pairs(broken(), tmp_path / "pairs.parquet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        (b'{"title": "a", "abstract": ', "not JSON"),
        (b"\xff\xfe", "cannot be read as UTF-8 text"),
        (b"[1]", "not a JSON object"),
        (b'{"abstract": "a"}', "no title"),
        (b'{"title": "a"}', "no abstract"),
        (b'{"title": "a", "abstract": null}', "no abstract"),
        (b'{"title": 5, "abstract": "a"}', "the title is no text: 5"),
        (b'{"title": "a", "abstract": "a", "pmid": "PMC12"}', "the pmid is no number: 'PMC12'"),
        (b'{"title": "a", "abstract": "a", "pmid": 1.5}', "the pmid is no number: 1.5"),
        (b'{"title": "a", "abstract": "a", "year": true}', "the year is no number: True"),
        (b'{"title": "a", "abstract": "a", "source": 3}', "the source is no text: 3"),
        (b'{"title": "a", "abstract": "a", "concept": 3}', "the concept is no text: 3"),
        (b'{"title": "a", "abstract": "a", "mesh": "Liver"}', "mesh is no list of names: 'Liver'"),
        (b'{"title": "a", "abstract": "a", "mesh": [1]}', "mesh is no list of names: [1]"),
        (b'{"title": "a", "abstract": "a", "links": 7}', "links is no list of numbers: 7"),
        (b'{"title": "a", "abstract": "a", "links": ["7"]}', "links is no list of numbers: ['7']"),
    ],
)
def test_bad_lines_are_refused_with_their_number(tmp_path, line, cause):
    path = tmp_path / "pairs.jsonl.zst"
    path.write_bytes(zstandard.compress(LINES + b"\n" + line + b"\n"))
    with pytest.raises(ModernPubMedError) as caught:
        list(read_pairs(path))
    assert caught.value.cause.startswith(cause)
    assert (caught.value.file, caught.value.record) == (str(path), "line 5")


def spoilt(tmp_path):
    zst, gz = zstandard.compress(LINES * 50), gzip.compress(LINES * 50)
    table = tmp_path / "good.parquet"
    write_pairs(PAIRS, table)
    parquet = table.read_bytes()
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"a": [1]}), other)
    return {
        "empty": (b"", "the file is empty"),
        "empty in gzip": (gzip.compress(b""), "the file is empty"),
        "zstd cut": (zst[:-5], "cannot be read"),
        "zstd cut at its start": (zst[:6], "cannot be read"),
        "zstd garbage": (zst[:10] + b"xxxxxxxxxx" + zst[20:], "cannot be read"),
        "gzip cut": (gz[:-9], "cannot be read"),
        "gzip checksum": (gz[:-8] + b"0000" + gz[-4:], "cannot be read"),
        "parquet cut": (parquet[:-10], "damaged Parquet"),
        "other columns": (other.read_bytes(), "its columns (a) are those of neither"),
    }


@pytest.mark.parametrize(
    "kind",
    ["empty", "empty in gzip", "zstd cut", "zstd cut at its start", "zstd garbage", "gzip cut",
     "gzip checksum", "parquet cut", "other columns"],
)  # fmt: skip
def test_damaged_files_are_refused_and_leave_nothing(tmp_path, kind):
    data, cause = spoilt(tmp_path)[kind]
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "pairs"
    path.write_bytes(data)
    for attempt in (lambda: list(read_pairs(path)), lambda: build_pairs([path], folder / "out")):
        with pytest.raises(ModernPubMedError) as caught:
            attempt()
        assert caught.value.cause.startswith(cause)
        assert caught.value.file == str(path)
        assert caught.value.remedy
    assert [child.name for child in folder.iterdir()] == ["pairs"]


def test_missing_inputs_are_refused(tmp_path):
    with pytest.raises(ModernPubMedError, match="no such file or folder"):
        list(read_pairs(tmp_path / "none"))
    with pytest.raises(ModernPubMedError, match="the folder has neither"):
        list(read_pairs(tmp_path))
    with pytest.raises(ModernPubMedError, match="a table of articles, not of pairs"):
        list(read_pairs(articles(tmp_path / "articles", article(1))))
    with pytest.raises(ModernPubMedError, match="no input given"):
        build_pairs([], tmp_path / "out")
    with pytest.raises(ModernPubMedError, match="dev_share is 2"):
        build_pairs([tmp_path], tmp_path / "out", dev_share=2)


def test_build_from_articles_and_json_lines(tmp_path):
    folder = articles(
        tmp_path / "nlm",
        *(article(n, year=2000 + n, mesh=(MeshHeading("D1", "Liver"),)) for n in range(1, 41)),
        article(50, "Editorial."),
        article(51, sections=()),
        article(52, "Study number 7."),
    )
    lines = tmp_path / "more.jsonl"
    rows = [
        {"pmid": "3", "title": "A copy of study 3", "abstract": text(3), "source": "s"},
        {"pmid": None, "title": "[Study without number]. [German]", "abstract": text(99)},
        {"pmid": 60, "title": "Study number sixty", "abstract": text(4)},
    ]
    lines.write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "out"
    manifest = build_pairs([folder, lines], out, dev_share=0.3)

    train, dev = (list(read_pairs(out / f"{side}.parquet")) for side in ("train", "dev"))
    assert {p.pmid for p in train + dev} == {None, *range(1, 41)}
    assert len(train) + len(dev) == 41
    assert all(split_of(p, dev_share=0.3) == "train" for p in train)
    assert all(split_of(p, dev_share=0.3) == "dev" for p in dev)
    assert len(dev) > 3
    assert [p.pmid for p in train if p.pmid] == sorted(p.pmid for p in train if p.pmid)
    [first] = [p for p in train + dev if p.pmid == 5]
    assert first == Pair(
        "Study number 5.", text(5), 5, "title-abstract", "nlm", 2005, mesh=("Liver",)
    )
    [unnumbered] = [p for p in train + dev if p.pmid is None]
    assert unnumbered.anchor == "Study without number"

    assert manifest.counts == {
        "articles": 43, "pairs": 3, "train": len(train), "dev": len(dev),
        "title brackets removed": 1, "database note in title removed": 1,
    }  # fmt: skip
    assert manifest.dropped == {
        "generic title": 1, "no abstract": 1, "same anchor": 1, "same PMID": 1, "same positive": 1,
    }  # fmt: skip
    assert manifest.settings == {
        "kind": "title-abstract", "dev_share": 0.3, "min_abstract": 200, "near": 0.8,
    }  # fmt: skip
    assert manifest.inputs == {
        str(folder): sha256(folder / "articles.parquet"), str(lines): sha256(lines),
    }  # fmt: skip
    assert Manifest.read(out) == manifest
    assert sorted(p.name for p in out.iterdir()) == [
        "dev.parquet",
        "manifest.json",
        "train.parquet",
    ]

    with pytest.raises(ModernPubMedError, match="split already") as caught:
        list(read_pairs(out))
    assert str(out / "train.parquet") in caught.value.remedy


def test_order_and_company_do_not_move_a_pair(tmp_path):
    few = articles(tmp_path / "few", *(article(n) for n in range(1, 30)))
    many = articles(tmp_path / "many", *(article(n) for n in range(80, 0, -1)))
    build_pairs([few], tmp_path / "a", dev_share=0.3)
    build_pairs([many], tmp_path / "b", dev_share=0.3)
    dev_of_few, dev_of_many = (
        {p.pmid for p in read_pairs(tmp_path / name / "dev.parquet")} for name in "ab"
    )
    assert dev_of_few == {n for n in dev_of_many if n < 30}


def test_a_folder_is_replaced_only_when_it_is_ours(tmp_path):
    source = articles(tmp_path / "nlm", *(article(n) for n in range(1, 30)))
    out = tmp_path / "out"
    build_pairs([source], out)
    build_pairs([source], out, dev_share=0.5)
    assert Manifest.read(out).settings["dev_share"] == 0.5
    (out / "notes.txt").write_text("mine")
    with pytest.raises(ModernPubMedError, match="holds other files"):
        build_pairs([source], out)
    assert (out / "notes.txt").read_text() == "mine"
    with pytest.raises(ModernPubMedError, match="there is a file here"):
        build_pairs([source], out / "notes.txt")


def test_no_pair_left_is_an_error(tmp_path):
    source = articles(tmp_path / "nlm", article(1, "Reply."), article(2, sections=()))
    with pytest.raises(ModernPubMedError, match="no usable pair is left") as caught:
        build_pairs([source], tmp_path / "out")
    assert "generic title 1, no abstract 1" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_progress_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "PIECE", 10)
    source = articles(tmp_path / "nlm", *(article(n) for n in range(1, 36)))
    seen = []
    build_pairs([source], tmp_path / "out", progress=seen.append)
    assert seen == [10, 20, 30]

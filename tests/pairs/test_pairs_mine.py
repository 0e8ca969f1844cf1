"""Mining: against a slow reference, against the field's own miner, each rule, each bad input."""

import math
import random
import re
from collections import Counter
from dataclasses import replace
from functools import cache
from importlib import import_module
from itertools import islice
from pathlib import Path
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modernpubmed.errors import ModernPubMedError
from modernpubmed.folding import folded
from modernpubmed.manifest import Manifest, sha256
from modernpubmed.pairs import candidates, mine, read_pairs
from modernpubmed.pairs.mine import REASONS
from modernpubmed.records import Pair, pair_to_row
from modernpubmed.related import mesh_overlap, near_duplicate_keys
from modernpubmed.schemas import MINED_SCHEMA, PAIR_SCHEMA

# The module, not the function of its name that the package exports.
mining = import_module("modernpubmed.pairs.mine")

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "pairs" / "pairs.jsonl.zst"


near_keys = cache(near_duplicate_keys)


@cache
def word_vector(word, dimension):
    return np.random.default_rng(crc32(word.encode())).standard_normal(dimension, dtype=np.float32)


class WordEncoder:
    """A text is the sum of its words, and a word a random vector of its own."""

    name = "words"
    fingerprint = "f00d"
    dimension = 48

    def __init__(self):
        self.truncated = 3
        self.most = 0

    def encode(self, texts):
        self.most = max(self.most, len(texts))
        rows = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in sorted(re.findall(r"\w+", text.casefold())):
                rows[row] += word_vector(word, self.dimension)
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)

    encode_query = encode_document = encode


class AngleEncoder(WordEncoder):
    """Vectors in the plane: a text's cosine to every anchor is the number it ends in."""

    dimension = 2

    def encode_query(self, texts):
        return np.array([[1.0, 0.0]] * len(texts), dtype=np.float32)

    def encode_document(self, texts):
        cosines = np.array([float(text.split()[-1]) for text in texts])
        return np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1).astype(np.float32)


SYLLABLES = "ba ce di fo gu ha je ki lo mu na pe ri so tu va we xi yo zu".split()
WORDS = [a + b + c for a in SYLLABLES[:8] for b in SYLLABLES[8:14] for c in SYLLABLES[14:]]


def some_pairs(count, seed=0):
    """Unrelated pairs of invented words; an abstract holds the words of its title."""
    draw = random.Random(seed)
    pairs = []
    for number in range(count):
        title = draw.sample(WORDS, 6)
        abstract = title + draw.choices(WORDS, k=25)
        pairs.append(Pair(" ".join(title).capitalize(), " ".join(abstract), pmid=100 + number))
    return pairs


def write(path, pairs, schema=PAIR_SCHEMA, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [pair_to_row(pair) if isinstance(pair, Pair) else pair for pair in pairs]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, **options)
    return path


def mined(pairs, tmp_path, encoder=None, name="out", **settings):
    source = write(tmp_path / "in" / "train.parquet", pairs, row_group_size=7)
    manifest = mine(source, encoder or WordEncoder(), tmp_path / name, **settings)
    table = pq.read_table(tmp_path / name / "train.parquet")
    assert table.schema.equals(MINED_SCHEMA)
    table.validate(full=True)
    return manifest, table.to_pylist()


# --- against a slow reference -------------------------------------------------------------------


def bm25(documents, query):
    """Lucene's BM25 by its formula; k1 1.5, b 0.75."""
    words = [re.findall(r"\w\w+", text.lower()) for text in documents]
    average = sum(map(len, words)) / len(words)
    scores = [0.0] * len(documents)
    for word in re.findall(r"\w\w+", query.lower()):
        having = sum(word in text for text in words)
        idf = math.log(1 + (len(words) - having + 0.5) / (having + 0.5))
        for place, text in enumerate(words):
            if count := text.count(word):
                scores[place] += idf * count / (count + 1.5 * (0.25 + 0.75 * len(text) / average))
    return scores


def first(scores, depth):
    """The places of the highest scores, ties to the lower place."""
    order = sorted(range(len(scores)), key=lambda place: (-round(scores[place], 5), place))
    return order[:depth]


def related(pair, other):
    """Why ``other`` is no negative's source for ``pair``, but for kind and MeSH."""
    if pair.pmid is not None and pair.pmid == other.pmid:
        return "same PMID"
    if pair.concept is not None and pair.concept == other.concept:
        return "same concept"
    texts = {folded(pair.anchor), folded(pair.positive)}
    if texts & {folded(other.anchor), folded(other.positive)}:
        return "same text"
    if (near_keys(pair.positive) == near_keys(other.positive)).any():
        return "near-duplicate text"
    if pair.pmid in other.links or other.pmid in pair.links:
        return "linked article"
    return None


def reference(pairs, encoder, negatives, depth, margin, overlap):
    """For each pair its negatives with scores, its own score, how many were left; the dropped."""
    documents = list(dict.fromkeys(pair.positive for pair in pairs))
    vectors = encoder.encode_document(documents).astype(np.float64)
    dropped, lists = Counter(), []
    for pair in pairs:
        query = encoder.encode_query([pair.anchor])[0].astype(np.float64)
        cosines = [float(np.float32(query @ vector)) for vector in vectors]
        own = cosines[documents.index(pair.positive)]
        words = bm25(documents, pair.anchor)
        by_words = [place for place in first(words, depth) if words[place] > 0]
        kept = []
        for place in sorted({*by_words, *first(cosines, depth)}):
            text = documents[place]
            sharing = [other for other in pairs if folded(other.positive) == folded(text)]
            reasons = [related(pair, other) for other in sharing]
            source = next(other for other in pairs if other.positive == text)
            if folded(text) == folded(pair.positive):
                dropped["the pair's own positive"] += 1
            elif pair.kind not in {other.kind for other in sharing}:
                dropped["another kind of pair"] += 1
            elif any(reasons):
                reason = min(filter(None, reasons), key=REASONS.index)
                dropped[reason] += 1
            elif mesh_overlap(pair.mesh, source.mesh) >= overlap:
                dropped["MeSH overlap"] += 1
            elif own <= 0 or cosines[place] > margin * own:
                dropped["score above the margin"] += 1
            else:
                kept.append((-cosines[place], place))
        best = {}
        for score, place in sorted(kept):
            best.setdefault(folded(documents[place]), (documents[place], -score))
        dropped["same text as a better negative"] += len(kept) - len(best)
        lists.append((list(best.values())[:negatives], own, len(best)))
    return lists, +dropped


@cache
def tangled(seed):
    """The pairs and what the reference makes of them."""
    pairs = tangled_pairs(seed)
    return pairs, *reference(pairs, WordEncoder(), 4, 12, 0.9, 0.5)


def tangled_pairs(seed):
    """Pairs related to each other in every way the rules know, by chance."""
    draw = random.Random(seed)
    pairs = some_pairs(60, seed)
    headings = ["Humans", "Male", "Gout", "Colchicine", "Uric Acid", "Knee", "Diet"]
    for place, pair in enumerate(pairs):
        other = pairs[draw.randrange(60)]
        pmid = draw.choice([None, pair.pmid, pair.pmid, pair.pmid, other.pmid])
        pair = replace(
            pair,
            pmid=pmid,
            kind=draw.choice(["title-abstract", "title-abstract", "synonym"]),
            concept=draw.choice([None, None, "MESH:1", "MESH:2"]),
            mesh=tuple(draw.sample(headings, draw.randrange(5))),
            links=tuple(draw.choices(range(100, 170), k=draw.randrange(3))),
        )
        match draw.randrange(12):
            case 0:
                pair = replace(pair, anchor=other.anchor)
            case 1:
                pair = replace(pair, positive=other.positive)
            case 2:
                pair = replace(pair, positive=other.positive.upper() + "!")
            case 3:
                pair = replace(pair, positive=other.positive + " gout")
            case 4:
                pair = replace(pair, positive=other.anchor)
            case 5:
                pair = replace(pair, anchor=other.positive)
        pairs[place] = pair
    return pairs


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("small_blocks", [False, True])
def test_the_same_as_a_slow_reference(seed, small_blocks, tmp_path, monkeypatch):
    if small_blocks:
        monkeypatch.setattr(mining, "_PAIRS", 7)
        for name, size in (("_TEXTS", 11), ("_ANCHORS", 4), ("_DOCUMENTS", 13)):
            monkeypatch.setattr(candidates, name, size)
    (pairs, lists, dropped), encoder = tangled(seed), WordEncoder()
    settings = {"negatives": 4, "depth": 12, "margin": 0.9, "mesh_overlap": 0.5}
    manifest, rows = mined(pairs, tmp_path, encoder, **settings)
    if small_blocks:
        assert encoder.most == 11
    assert len(rows) == len(pairs)
    for pair, row, (expected, own, _) in zip(pairs, rows, lists, strict=True):
        assert {name: row[name] for name in PAIR_SCHEMA.names} == {
            **pair_to_row(pair), "mesh": list(pair.mesh), "links": list(pair.links),
        }  # fmt: skip
        assert row["negatives"] == [text for text, _ in expected]
        assert row["negative_scores"] == pytest.approx([score for _, score in expected], abs=1e-6)
        assert row["positive_score"] == pytest.approx(own, abs=1e-6)
    assert manifest.dropped == dropped
    lengths = [len(expected) for expected, _, _ in lists]
    assert manifest.counts == {
        "pairs": 60,
        "pairs with all negatives": lengths.count(4),
        "pairs with some negatives": sum(0 < length < 4 for length in lengths),
        "pairs with no negatives": lengths.count(0),
        "pairs with a positive score of 0 or less": sum(own <= 0 for _, own, _ in lists),
        "candidates": sum(lengths) + sum(more - min(more, 4) for *_, more in lists)
        + dropped.total(),
        "negatives": sum(lengths),
        "candidates left over": sum(more - min(more, 4) for *_, more in lists),
        "texts cut": 0,
    }  # fmt: skip


def test_the_reference_meets_every_rule():
    met = Counter()
    for seed in range(6):
        met += tangled(seed)[2]
    assert set(met) == set(REASONS)


# --- against the field's own miner --------------------------------------------------------------


def test_the_same_as_sentence_transformers_where_both_do_the_same(tiny_model, tmp_path):
    datasets = pytest.importorskip("datasets")
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.util import mine_hard_negatives

    draw = random.Random(1)
    words = "fever cough asthma liver kidney heart acute chronic failure surgery cancer".split()
    pairs = [
        Pair(" ".join(draw.sample(words, 3)), f"{' '.join(draw.choices(words, k=9))} {number}")
        for number in range(30)
    ]
    model = SentenceTransformer(str(tiny_model), device="cpu")

    class Wrapped(WordEncoder):
        dimension = 32

        def encode_document(self, texts):
            return model.encode(texts, normalize_embeddings=True)

        encode_query = encode_document

    pairs = list({folded(pair.anchor): pair for pair in pairs}.values())
    # Every text is a candidate, and nothing but the margin is left to decide.
    _, rows = mined(pairs, tmp_path, Wrapped(), depth=30)
    columns = {name: [getattr(pair, name) for pair in pairs] for name in ("anchor", "positive")}
    theirs = mine_hard_negatives(
        datasets.Dataset.from_dict(columns),
        model,
        num_negatives=4,
        range_max=len(pairs) - 1,
        relative_margin=0.05,
        output_format="triplet",
        verbose=False,
    )
    expected: dict[str, set[str]] = {pair.anchor: set() for pair in pairs}
    for row in theirs:
        expected[row["anchor"]].add(row["negative"])
    ours = {row["anchor"]: set(row["negatives"]) for row in rows}
    assert ours == expected
    assert {len(found) for found in ours.values()} >= {0, 4}


# --- the rules, one by one ----------------------------------------------------------------------


class PairEncoder(WordEncoder):
    """Knows the pairs: the two texts of one are at cosine 1, those of different ones at 0.5."""

    def __init__(self, pairs):
        super().__init__()
        self.dimension = len(pairs) + 1
        self.place = {}
        for place, pair in enumerate(pairs, 1):
            self.place.setdefault(pair.anchor, place)
            self.place.setdefault(pair.positive, place)

    def encode(self, texts):
        rows = np.zeros((len(texts), self.dimension), dtype=np.float32)
        rows[:, 0] = 1
        rows[np.arange(len(texts)), [self.place[text] for text in texts]] = 1
        return rows / np.float32(math.sqrt(2))

    encode_query = encode_document = encode


def related_pairs(one, two):
    """Four pairs, of which the first two are given what makes them related."""
    pairs = some_pairs(4)
    return [replace(pairs[0], **one), replace(pairs[1], **two), *pairs[2:]]


@pytest.mark.parametrize(
    ("reason", "one", "two"),
    [
        ("same PMID", {"pmid": 5}, {"pmid": 5}),
        ("same concept", {"concept": "MESH:D1"}, {"concept": "MESH:D1"}),
        ("same text", {"anchor": "Ba ce-di."}, {"anchor": "BA CE DI"}),
        ("same text", {"anchor": "ba ce di"}, {"positive": "Ba ce di"}),
        (
            "near-duplicate text",
            {"positive": " ".join(WORDS[:30])},
            {"positive": " ".join(WORDS[:31])},
        ),
        ("linked article", {"pmid": 5, "links": (7, 6, 5)}, {"pmid": 6}),
        ("linked article", {"pmid": 5}, {"pmid": 6, "links": (5,)}),
        ("linked article", {"pmid": None, "links": (6,)}, {"pmid": 6}),
        ("MeSH overlap", {"mesh": ("Gout", "Diet")}, {"mesh": ("Humans", "Gout")}),
    ],
)
def test_a_related_pair_gives_no_negative_either_way(reason, one, two, tmp_path):
    pairs = related_pairs(one, two)
    manifest, rows = mined(pairs, tmp_path, PairEncoder(pairs))
    assert manifest.dropped == {"the pair's own positive": 4, reason: 2}
    assert sorted(rows[0]["negatives"]) == sorted(pair.positive for pair in pairs[2:])
    assert sorted(rows[1]["negatives"]) == sorted(pair.positive for pair in pairs[2:])
    assert sorted(rows[2]["negatives"]) == sorted(
        pair.positive for pair in (pairs[0], pairs[1], pairs[3])
    )
    assert manifest.counts["candidates"] == 16
    assert manifest.counts["negatives"] == 10


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({"pmid": None}, {"pmid": None}),
        ({"concept": None}, {"concept": "MESH:D1"}),
        ({"mesh": ("Gout", "Diet", "Knee")}, {"mesh": ("Gout",)}),
        ({"mesh": ("Humans", "Male")}, {"mesh": ("Humans", "Male")}),
        ({"mesh": ()}, {"mesh": ()}),
        ({"links": (7, 8)}, {"links": (7, 8)}),
    ],
)
def test_what_is_not_related_stays(one, two, tmp_path):
    pairs = related_pairs(one, two)
    manifest, _ = mined(pairs, tmp_path, PairEncoder(pairs))
    assert manifest.dropped == {"the pair's own positive": 4}
    assert manifest.counts["negatives"] == 12


def test_negatives_are_of_one_kind(tmp_path):
    pairs = related_pairs({"kind": "synonym"}, {"kind": "synonym"})
    manifest, rows = mined(pairs, tmp_path, PairEncoder(pairs))
    assert manifest.dropped == {"the pair's own positive": 4, "another kind of pair": 8}
    assert [row["negatives"] for row in rows] == [[pairs[place].positive] for place in (1, 0, 3, 2)]


def test_a_text_of_several_pairs_is_judged_by_all_of_them(tmp_path):
    # The heading is also that of article 0, though the row of article 1 comes first.
    pairs = some_pairs(5)
    heading = "Gout"
    pairs[1] = replace(pairs[1], positive=heading)
    pairs[2] = replace(pairs[2], pmid=pairs[0].pmid, positive=heading)
    manifest, rows = mined(pairs, tmp_path, PairEncoder(pairs))
    assert heading not in rows[0]["negatives"]
    assert heading in rows[3]["negatives"]
    assert len(set(rows[3]["negatives"])) == len(rows[3]["negatives"]) == 3
    assert manifest.counts["candidates"] == 5 * 4
    # This encoder has the heading with article 1, so to row 2 its own is no nearer than the rest.
    assert manifest.dropped == {
        "the pair's own positive": 5,
        "same PMID": 2,
        "score above the margin": 2,
    }


def test_a_negative_is_not_given_twice_in_two_spellings(tmp_path):
    pairs = some_pairs(3)
    pairs[2] = replace(pairs[2], positive=pairs[1].positive.upper())
    manifest, rows = mined(pairs, tmp_path, PairEncoder(pairs))
    assert rows[0]["negatives"] == [pairs[1].positive]
    assert manifest.dropped == {
        "the pair's own positive": 3 + 2,
        "same text as a better negative": 1,
    }


@pytest.mark.parametrize(
    ("own", "kept"),
    [
        (0.8, [0.7, 0.1, 0.0, -0.5]),  # 0.77 is above 95 % of it: 0.76
        (0.1, [0.0, -0.5]),
        (0.0, []),
        (-0.2, []),  # 95 % of it is -0.19, which would let better texts than itself through
    ],
)
def test_the_margin(own, kept, tmp_path):
    cosines = [own, 0.77, 0.7, 0.1, 0.0, -0.5]
    pairs = [
        Pair(f"anchor{place}", f"positive{place} {cosine}", pmid=place)
        for place, cosine in enumerate(cosines)
    ]
    manifest, rows = mined(pairs, tmp_path, AngleEncoder(), negatives=9)
    kept = [cosine for cosine in kept if cosine != own]
    assert [float(text.split()[1]) for text in rows[0]["negatives"]] == kept
    assert rows[0]["negative_scores"] == pytest.approx(kept, abs=1e-6)
    assert rows[0]["positive_score"] == pytest.approx(own, abs=1e-6)
    expected = [[c for c in cosines if c <= 0.95 * own] if own > 0 else [] for own in cosines]
    above = sum(5 - len(found) for found in expected)
    assert manifest.dropped == {"the pair's own positive": 6, "score above the margin": above}
    assert manifest.counts["pairs with a positive score of 0 or less"] == sum(
        c <= 0 for c in cosines
    )
    assert manifest.counts["pairs with no negatives"] == expected.count([])


def test_both_ways_of_searching_bring_candidates(tmp_path):
    # To the vectors the last two are nearest; the words are those of the second.
    pairs = [
        Pair("gout diet", "urate 0.9", pmid=1),
        Pair("knee", "gout diet 0.1", pmid=2),
        Pair("hip", "cartilage 0.8", pmid=3),
        Pair("hand", "bone 0.7", pmid=4),
        Pair("foot", "skin 0.2", pmid=5),
    ]
    manifest, rows = mined(pairs, tmp_path, AngleEncoder(), depth=2)
    # By vectors its own positive and 0.8; by words one alone: the others hold none of the anchor's.
    assert rows[0]["negatives"] == ["cartilage 0.8", "gout diet 0.1"]
    assert manifest.counts["candidates"] == 2 * 5 + 1


def test_without_any_word_the_vectors_alone_search(tmp_path):
    pairs = [Pair(f"the {place}", f"? {place} 0.{place}", pmid=place) for place in range(1, 5)]
    _, rows = mined(pairs, tmp_path, AngleEncoder())
    assert rows[3]["negatives"] == ["? 3 0.3", "? 2 0.2", "? 1 0.1"]


def test_ties_go_to_the_earlier_row_and_twice_is_the_same(tmp_path):
    pairs = some_pairs(40)
    manifest, rows = mined(pairs, tmp_path, PairEncoder(pairs), negatives=3, depth=6)
    again, _ = mined(pairs, tmp_path, PairEncoder(pairs), "again", negatives=3, depth=6)
    one, two = (tmp_path / name / "train.parquet" for name in ("out", "again"))
    assert one.read_bytes() == two.read_bytes()
    assert (manifest.counts, manifest.dropped) == (again.counts, again.dropped)
    places = {pair.positive: place for place, pair in enumerate(pairs)}
    for row in rows:
        found = [places[text] for text in row["negatives"]]
        assert found == sorted(found)
    # All others tie: the vectors bring the own positive and the first five others.
    assert {places[text] for row in rows[:5] for text in row["negatives"]} <= set(range(6))


def test_fewer_negatives_than_asked_for_are_counted(tmp_path):
    pairs = related_pairs({"pmid": 5}, {"pmid": 5})
    manifest, rows = mined(pairs, tmp_path, PairEncoder(pairs), negatives=3)
    assert [len(row["negatives"]) for row in rows] == [2, 2, 3, 3]
    assert manifest.counts["pairs with all negatives"] == 2
    assert manifest.counts["pairs with some negatives"] == 2
    assert manifest.counts["pairs with no negatives"] == 0


def test_one_pair_alone_has_none(tmp_path):
    manifest, rows = mined(some_pairs(1), tmp_path)
    assert rows[0]["negatives"] == rows[0]["negative_scores"] == []
    assert manifest.counts["pairs with no negatives"] == 1


# --- files --------------------------------------------------------------------------------------


def test_a_folder_of_pairs_in_and_one_out(tmp_path):
    pairs = some_pairs(12)
    train = write(tmp_path / "in" / "train.parquet", pairs)
    dev = write(tmp_path / "in" / "dev.parquet", some_pairs(3, seed=9))
    said = []
    encoder = WordEncoder()
    manifest = mine(tmp_path / "in", encoder, tmp_path / "out", progress=lambda *a: said.append(a))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "dev.parquet",
        "manifest.json",
        "train.parquet",
    ]
    assert (tmp_path / "out" / "dev.parquet").read_bytes() == dev.read_bytes()
    assert Manifest.read(tmp_path / "out") == manifest
    assert manifest.kind == "pairs"
    assert manifest.inputs == {str(train): sha256(train), str(dev): sha256(dev)}
    settings = dict(manifest.settings)
    assert settings.pop("bm25")["method"] == "lucene"
    assert settings == {
        "encoder": {"name": "words", "fingerprint": "f00d"},
        "negatives": 4,
        "depth": 50,
        "margin": 0.95,
        "mesh_overlap": 0.4,
    }
    assert (manifest.counts["pairs"], manifest.counts["dev"]) == (12, 3)
    assert said == [
        ("folding texts", 12, 24),
        ("folding texts", 24, 24),
        ("encoding anchors", 12, 12),
        ("encoding positives", 12, 12),
        ("searching by words", 12, 12),
        ("searching by vectors", 12, 12),
        ("comparing texts", 12, 12),
        ("choosing negatives", 12, 12),
    ]
    # What it wrote can be mined again, in place of what was there; the old negatives go.
    again = mine(tmp_path / "out", encoder, tmp_path / "again", negatives=1)
    assert again.counts["negatives"] <= 12
    assert mine(tmp_path / "in", encoder, tmp_path / "again").counts == manifest.counts


def test_a_file_of_before_the_later_columns(tmp_path):
    old = pa.schema([PAIR_SCHEMA.field(place) for place in range(6)])
    rows = [{name: pair_to_row(pair)[name] for name in old.names} for pair in some_pairs(5)]
    write(tmp_path / "old.parquet", rows, old)
    manifest = mine(tmp_path / "old.parquet", WordEncoder(), tmp_path / "out")
    found = pq.read_table(tmp_path / "out" / "train.parquet").to_pylist()
    assert [(row["concept"], row["mesh"], row["links"]) for row in found] == [(None, [], [])] * 5
    assert manifest.counts["pairs"] == 5


def test_nulls_where_lists_may_be_lacking_are_empty(tmp_path):
    loose = pa.schema([field.with_nullable(True) for field in PAIR_SCHEMA])
    rows = [pair_to_row(pair) | {"mesh": None, "links": None} for pair in some_pairs(3)]
    write(tmp_path / "loose.parquet", rows, loose)
    mine(tmp_path / "loose.parquet", WordEncoder(), tmp_path / "out")
    found = pq.read_table(tmp_path / "out" / "train.parquet").to_pylist()
    assert [(row["mesh"], row["links"]) for row in found] == [([], [])] * 3


def test_texts_that_the_encoder_cut_are_counted(tmp_path):
    class Cutting(WordEncoder):
        def encode_document(self, texts):
            self.truncated += len(texts)
            return self.encode(texts)

    manifest, _ = mined(some_pairs(5), tmp_path, Cutting())
    assert manifest.counts["texts cut"] == 5


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "change", "message"),
    [
        (8, {"anchor": None}, "row 8: null in column 'anchor'"),
        (9, {"positive": None}, "row 9: null in column 'positive'"),
        (3, {"kind": None}, "row 3: null in column 'kind'"),
        (8, {"anchor": " \n"}, "row 8: empty text in column 'anchor'"),
        (0, {"positive": ""}, "row 0: empty text in column 'positive'"),
        (8, {"mesh": ["Gout", None]}, "row 8: null in column 'mesh'"),
        (9, {"links": [None]}, "row 9: null in column 'links'"),
    ],
)
def test_a_bad_row_is_named(row, change, message, tmp_path):
    rows = [pair_to_row(pair) for pair in some_pairs(10)]
    rows[1] |= {"mesh": ["Gout", "Knee"], "links": [7, 8, 9]}
    rows[row] |= change
    loose = pa.schema([field.with_nullable(True) for field in PAIR_SCHEMA])
    path = write(tmp_path / "in" / "train.parquet", rows, loose, row_group_size=4)
    with pytest.raises(ModernPubMedError) as error:
        mine(tmp_path / "in", WordEncoder(), tmp_path / "out")
    assert str(error.value).startswith(f"{path}: {message}. Remedy: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop_columns(["kind"]), "no column 'kind'"),
        (lambda table: table.append_column("score", table["pmid"]), "unknown column 'score'"),
        (
            lambda table: table.set_column(0, "anchor", table["pmid"]),
            "wrong column 'anchor' (it holds int64, not string)",
        ),
        (
            lambda table: table.set_column(7, "mesh", table["anchor"]),
            "wrong column 'mesh' (it holds string, not list<",
        ),
        (
            lambda table: table.set_column(5, "year", pa.array([2**40] * len(table))),
            "wrong column 'year'",
        ),
        (lambda table: table.slice(0, 0), "the file holds no pair"),
    ],
)
def test_a_wrong_table_is_refused(change, message, tmp_path):
    write(tmp_path / "p.parquet", some_pairs(4))
    table = change(pq.read_table(tmp_path / "p.parquet"))
    pq.write_table(table, tmp_path / "p.parquet")
    with pytest.raises(ModernPubMedError, match=re.escape(message)) as error:
        mine(tmp_path / "p.parquet", WordEncoder(), tmp_path / "out")
    assert str(tmp_path / "p.parquet") in str(error.value)


@pytest.mark.parametrize("name", ["train.parquet", "dev.parquet"])
def test_a_file_that_is_none_is_refused(name, tmp_path):
    write(tmp_path / "in" / "train.parquet", some_pairs(4))
    (tmp_path / "in" / name).write_text("not Parquet")
    with pytest.raises(ModernPubMedError, match=f"{name}: not a readable Parquet file"):
        mine(tmp_path / "in", WordEncoder(), tmp_path / "out")


def test_no_pairs_there(tmp_path):
    with pytest.raises(ModernPubMedError, match="no such file of pairs"):
        mine(tmp_path, WordEncoder(), tmp_path / "out")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"negatives": 0}, "negatives is 0"),
        ({"depth": 0}, "depth is 0"),
        ({"margin": 0.0}, "margin is 0.0"),
        ({"margin": 1.1}, "margin is 1.1"),
        ({"mesh_overlap": 0.0}, "mesh_overlap is 0.0"),
        ({"mesh_overlap": float("nan")}, "mesh_overlap is nan"),
    ],
)
def test_a_setting_out_of_range_is_refused(settings, message, tmp_path):
    with pytest.raises(ModernPubMedError, match=message):
        mined(some_pairs(3), tmp_path, **settings)


def test_no_folder_is_overwritten_that_is_not_ours(tmp_path):
    source = write(tmp_path / "in" / "train.parquet", some_pairs(4))
    with pytest.raises(ModernPubMedError, match="this is where the pairs are read from"):
        mine(source, WordEncoder(), tmp_path / "in")
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter1.txt").write_text("…")
    with pytest.raises(ModernPubMedError, match="holds other files"):
        mine(source, WordEncoder(), other)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (lambda rows: rows[:, :5], "vectors of shape (4, 5)"),
        (lambda rows: rows * np.array([[1], [1], [np.nan], [1]]), "is not finite"),
    ],
)
def test_bad_vectors_are_refused(vectors, message, tmp_path):
    class Bad(WordEncoder):
        def encode_document(self, texts):
            return vectors(self.encode(texts))

    pairs = some_pairs(4)
    with pytest.raises(ModernPubMedError, match=re.escape(message)) as error:
        mined(pairs, tmp_path, Bad())
    if "finite" in message:
        assert pairs[2].positive[:40] in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize(
    "stage", ["encoding positives", "searching by words", "choosing negatives"]
)
def test_ctrl_c_leaves_nothing(stage, tmp_path):
    def stop(what, *_):
        if what == stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mined(some_pairs(8), tmp_path, progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


# --- real pairs ---------------------------------------------------------------------------------


@pytest.mark.real
def test_on_real_pairs(tmp_path):
    pairs = list(islice(read_pairs(REAL), 0, 15_000, 30))
    manifest, rows = mined(pairs, tmp_path)
    counts = manifest.counts
    assert len(pairs) == len(rows) == counts["pairs"] == 500
    assert counts["candidates"] == (
        counts["negatives"] + counts["candidates left over"] + sum(manifest.dropped.values())
    )
    assert counts["negatives"] == sum(len(row["negatives"]) for row in rows) > 1500
    sources = {}
    for pair in pairs:
        sources.setdefault(pair.positive, []).append(pair)
    for row in rows:
        scores = row["negative_scores"]
        assert len(row["negatives"]) == len(scores) <= 4
        assert scores == sorted(scores, reverse=True)
        assert all(score <= 0.95 * row["positive_score"] for score in scores)
        texts = {folded(text) for text in row["negatives"]}
        assert len(texts) == len(row["negatives"])
        assert not texts & {folded(row["positive"]), folded(row["anchor"])}
        own = near_duplicate_keys(row["positive"])
        for text in row["negatives"]:
            assert not (near_duplicate_keys(text) == own).any()
            assert all(pair.pmid is None or pair.pmid != row["pmid"] for pair in sources[text])

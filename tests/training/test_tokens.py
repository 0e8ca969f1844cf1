from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sentence_transformers import SentenceTransformer

from modernpubmed.errors import ModernPubMedError
from modernpubmed.pairs import write_pairs
from modernpubmed.records import Pair, pair_to_row
from modernpubmed.schemas import MINED_SCHEMA
from modernpubmed.training import tokens as module
from modernpubmed.training.contrast import contrast
from modernpubmed.training.tokens import Form, tokenise
from modernpubmed.training.train import tokenizer_of


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> str:
    return tokenizer_of(SentenceTransformer(str(tiny_model), device="cpu"), "tiny")


ROWS = [
    Pair("Insulin after surgery", "  glucose of patients\nafter surgery ", pmid=4, links=(7, 9)),
    Pair("Asthma", "children with cough and asthma", pmid=5, mesh=("Humans", "Asthma", "Cough")),
    Pair("high blood pressure", "stroke", concept="M:1"),
    Pair("low blood pressure", "outcome of stroke", concept="M:1"),
]


def write_mined(path: Path) -> None:
    lists = [["fever", "acute fever"], [], ["cancer trial", "trial", "death"], ["cough"]]
    rows = [
        {**pair_to_row(pair), "negatives": texts, "negative_scores": [0.5] * len(texts),
         "positive_score": 0.9}
        for pair, texts in zip(ROWS, lists, strict=True)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, schema=MINED_SCHEMA), path)


def test_ids_are_those_of_sentence_transformers(tokenizer: str, tiny_model: Path, tmp_path: Path):
    write_pairs(ROWS, tmp_path / "p.parquet")
    form = Form(tokenizer, anchor_tokens=5, positive_tokens=6)
    store = tokenise(tmp_path / "p.parquet", "a", form, tmp_path / "cache", workers=1)
    model = SentenceTransformer(str(tiny_model), device="cpu")
    for column, limit, texts in (
        (store.anchor, 5, [pair.anchor for pair in ROWS]),
        (store.positive, 6, [pair.positive for pair in ROWS]),
    ):
        model.max_seq_length = limit
        for row, text in enumerate(texts):
            features = model.preprocess([text])
            assert column.row(row).tolist() == features["input_ids"][0].tolist()
    assert len(store) == 4
    assert store.lengths.tolist() == [len(store.positive.row(row)) for row in range(4)]
    assert store.pmids.tolist() == [4, 5, 0, 0]
    assert store.links.row(0).tolist() == [7, 9]
    assert [len(store.mesh.row(row)) for row in range(4)] == [0, 2, 0, 0]  # not the check tag
    same = store.keys[2] == store.keys[3]
    assert same[-1]  # one concept
    assert not same[:-2].any()
    # "surgery" is four tokens of the tiny vocabulary or one; what was cut says the tokenizer.
    model.max_seq_length = 512
    long = [
        sum(len(model.preprocess([text])["input_ids"][0]) > limit for text in texts)
        for limit, texts in ((5, [p.anchor for p in ROWS]), (6, [p.positive for p in ROWS]))
    ]
    assert (store.counts["anchors_cut"], store.counts["positives_cut"]) == tuple(long)
    assert long[1] > 0


def test_prompts_are_put_before(tokenizer: str, tiny_model: Path, tmp_path: Path):
    write_pairs(ROWS, tmp_path / "p.parquet")
    form = Form(tokenizer, 20, 20, anchor_prompt="patient ", positive_prompt="trial ")
    store = tokenise(tmp_path / "p.parquet", "a", form, tmp_path / "cache", workers=1)
    model = SentenceTransformer(str(tiny_model), device="cpu")
    expected = model.tokenizer("patient Asthma")["input_ids"]
    assert store.anchor.row(1).tolist() == expected
    expected = model.tokenizer("trial stroke")["input_ids"]
    assert store.positive.row(2).tolist() == expected


def test_negatives_and_contrasts(tokenizer: str, tiny_model: Path, tmp_path: Path):
    write_mined(tmp_path / "p.parquet")
    form = Form(tokenizer, 20, 20, negatives=2, contrast="queries")
    store = tokenise(tmp_path / "p.parquet", "a", form, tmp_path / "cache", workers=1)
    model = SentenceTransformer(str(tiny_model), device="cpu")
    ids = {text: model.tokenizer(text)["input_ids"] for text in
           ("fever", "acute fever", "cancer trial", "trial", "cough")}  # fmt: skip
    found = [[part.tolist() for part in store.negatives_of(row)] for row in range(4)]
    assert found == [
        [ids["fever"], ids["acute fever"]],
        [],
        [ids["cancer trial"], ids["trial"]],
        [ids["cough"]],
    ]
    assert store.mined.tolist() == [2, 0, 2, 1]
    assert store.lengths[2] == len(store.positive.row(2)) + sum(map(len, found[2]))
    for row, pair in enumerate(ROWS):
        made = contrast(pair.anchor)
        expected = [] if made is None else model.tokenizer(made.text)["input_ids"]
        assert store.contrast.row(row).tolist() == expected
    assert store.counts["contrasts"] == sum(contrast(pair.anchor) is not None for pair in ROWS) > 0


def test_contrasts_as_documents_come_before_what_was_mined(
    tokenizer: str, tiny_model: Path, tmp_path: Path
):
    write_mined(tmp_path / "p.parquet")
    form = Form(tokenizer, 20, 20, negatives=1, contrast="documents")
    store = tokenise(tmp_path / "p.parquet", "a", form, tmp_path / "cache", workers=1)
    mined = tokenise(
        tmp_path / "p.parquet", "a", Form(tokenizer, 20, 20, negatives=1), tmp_path, workers=1
    )
    model = SentenceTransformer(str(tiny_model), device="cpu")
    some = 0
    for row, pair in enumerate(ROWS):
        made = contrast(pair.anchor)
        twin = [] if made is None else [model.tokenizer(made.text)["input_ids"]]
        found = [ids.tolist() for ids in store.negatives_of(row)]
        assert found == twin + [ids.tolist() for ids in mined.negatives_of(row)]
        some += len(twin)
    assert store.counts["contrasts"] == some > 0
    assert not len(store.contrast.values)


def test_a_store_is_made_once_and_named_by_what_it_holds(tokenizer: str, tmp_path: Path):
    path = tmp_path / "p.parquet"
    write_pairs(ROWS, path)
    form = Form(tokenizer, 20, 20)
    tokenise(path, "a", form, tmp_path / "cache", workers=1)
    path.unlink()
    tokenise(path, "a", form, tmp_path / "cache", workers=1)  # not read again
    with pytest.raises(ModernPubMedError, match="not a readable Parquet"):
        tokenise(path, "b", form, tmp_path / "cache", workers=1)
    with pytest.raises(ModernPubMedError, match="not a readable Parquet"):
        tokenise(path, "a", Form(tokenizer, 20, 21), tmp_path / "cache", workers=1)
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.slow
def test_workers_give_what_one_process_gives(tokenizer: str, tmp_path: Path):
    path = tmp_path / "p.parquet"
    pairs = [Pair(f"fever {n}", f"a trial of {n} patients with cough " * 3) for n in range(4_500)]
    write_pairs(pairs, path)
    form = Form(tokenizer, 20, 40)
    one = tokenise(path, "a", form, tmp_path / "one", workers=1)
    seen: list[tuple[int, int]] = []
    two = tokenise(
        path, "a", form, tmp_path / "two", workers=2, progress=lambda *done: seen.append(done)
    )
    assert seen == [(2_000, 4_500), (4_000, 4_500), (4_500, 4_500)]
    assert len(one) == len(two) == 4_500
    for name in ("anchor", "positive"):
        np.testing.assert_array_equal(getattr(one, name).values, getattr(two, name).values)
        np.testing.assert_array_equal(getattr(one, name).offsets, getattr(two, name).offsets)
    np.testing.assert_array_equal(one.keys, two.keys)


@pytest.mark.slow
def test_a_script_without_a_guard_is_told_so_and_does_not_hang(tokenizer: str, tmp_path: Path):
    write_pairs([Pair(f"fever {n}", "cough " * 9) for n in range(2_500)], tmp_path / "p.parquet")
    (tmp_path / "tokenizer.json").write_text(tokenizer)
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from modernpubmed.training.tokens import Form, tokenise\n"
        f"here = Path({str(tmp_path)!r})\n"
        "form = Form((here / 'tokenizer.json').read_text(), 9, 9)\n"
        "tokenise(here / 'p.parquet', 'a', form, here / 'cache', workers=2)\n"
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert '__name__ == "__main__"' in done.stderr.splitlines()[-1]


def test_reading_a_store_maps_it(tokenizer: str, tmp_path: Path):
    path = tmp_path / "p.parquet"
    write_pairs([Pair(f"fever {n}", "cough " * 200) for n in range(3_000)], path)
    form = Form(tokenizer, 20, 400)
    tokenise(path, "a", form, tmp_path / "cache", workers=1)
    folder = next((tmp_path / "cache").iterdir())
    assert sum(file.stat().st_size for file in folder.iterdir()) > 2_000_000
    tracemalloc.start()
    store = module.read_tokens(folder)
    assert len(store.positive.row(2_999)) > 100
    assert tracemalloc.get_traced_memory()[1] < 200_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"anchor": ["a"], "text": ["b"]}, "no column 'positive'"),
        ({"anchor": ["a", "b", None], "positive": ["c", "d", "e"]}, "row 2: null text"),
        ({"anchor": ["a", "b"], "positive": ["c", "\n "]}, "row 1: empty text"),
    ],
)
def test_bad_pairs_are_refused_and_leave_nothing(
    columns: dict, words: str, tokenizer: str, tmp_path: Path
):
    pq.write_table(pa.table(columns), tmp_path / "p.parquet")
    with pytest.raises(ModernPubMedError, match=words):
        tokenise(tmp_path / "p.parquet", "a", Form(tokenizer, 9, 9), tmp_path / "c", workers=1)
    assert not (tmp_path / "c").exists() or not list((tmp_path / "c").iterdir())

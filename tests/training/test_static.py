"""Distilling a static model: what it learns, what it leaves, what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
import zstandard
from tokenizers import Tokenizer

from modernpubmed.cli import main
from modernpubmed.encoder import Encoder
from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import Manifest, sha256
from modernpubmed.pairs import write_pairs
from modernpubmed.records import Pair
from modernpubmed.training.static import Settings, distil_static
from modernpubmed.training.students import agreement
from modernpubmed.training.texts import read_texts
from modernpubmed.training.vocabulary import adapted, bags

TOPICS = ("heart", "liver", "kidney", "cough", "asthma", "stroke", "insulin", "cancer")
FILLERS = "study risk therapy disease trial cohort outcome surgery dose blood fever with of".split()
SETTINGS = Settings(dim=16, tokens=90, steps=40, batch=16, teacher_texts=60)


@pytest.fixture(scope="module")
def teacher(tiny_model: Path) -> Encoder:
    return Encoder.load(tiny_model)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Pairs whose sides share no word but by topic, and single texts."""
    folder = tmp_path_factory.mktemp("files")
    random = Random(1)
    rows = [
        Pair(
            f"{topic} {topic} {number}",
            " ".join([f"{topic}itis", *random.sample(FILLERS, 5)]),
        )
        for number in range(10)
        for topic in TOPICS
    ]
    (folder / "pairs").mkdir()
    write_pairs(rows, folder / "pairs" / "train.parquet")
    (folder / "texts.txt").write_text("fever in children\n\nacute kidney failure\n")
    titles = "".join(
        json.dumps({"pmid": str(row), "title": f" chronic {topic} disease "}) + "\n"
        for row, topic in enumerate(TOPICS)
    )
    (folder / "titles.jsonl.zst").write_bytes(zstandard.compress(titles.encode()))
    return [folder / "pairs", folder / "texts.txt", folder / "titles.jsonl.zst"]


@pytest.fixture(scope="module")
def student(
    teacher: Encoder,
    tiny_model: Path,
    files: list[Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    out = tmp_path_factory.mktemp("students") / "static"
    distil_static(teacher, tiny_model / "tokenizer.json", files, out, settings=SETTINGS)
    return out


def test_it_learns_what_the_pairs_say(
    student: Path, teacher: Encoder, tiny_model: Path, files: list[Path], tmp_path: Path
):
    untrained = tmp_path / "untrained"
    settings = replace(SETTINGS, steps=0)
    distil_static(teacher, tiny_model / "tokenizer.json", files, untrained, settings=settings)
    queries, names = list(TOPICS), [f"{topic}itis" for topic in TOPICS]

    def right(folder: Path) -> float:
        scores = Encoder.load(folder).similarity(queries, names)
        return float((scores.argmax(axis=1) == np.arange(len(TOPICS))).mean())

    assert right(student) == 1.0
    assert right(untrained) < 1.0


def test_sentence_transformers_reads_it(student: Path):
    from sentence_transformers import SentenceTransformer

    texts = ["heart disease", "fever with kidneyitis and zebra", "blood " * 2000]
    model = SentenceTransformer(str(student), device="cpu")
    theirs = np.asarray(model.encode(texts), dtype=np.float32)
    assert [type(module).__name__ for module in model] == ["StaticEmbedding", "Normalize"]
    cosines = (Encoder.load(student).encode(texts) * theirs).sum(axis=1)
    assert cosines.min() > 0.999
    assert model[0].embedding.weight.dtype == torch.float16


def test_the_manifest_says_what_it_was_made_of(student: Path, teacher: Encoder, files: list[Path]):
    manifest = Manifest.read(student)
    assert manifest.kind == "model"
    assert manifest.seed == SETTINGS.seed
    assert manifest.settings["static"]["dim"] == 16
    assert manifest.counts["pairs"] == 80
    assert manifest.counts["teacher_texts"] == 60
    assert manifest.counts["tokens"] == 90
    assert manifest.inputs["teacher"] == teacher.fingerprint
    train = files[0] / "train.parquet"
    assert manifest.inputs[str(train)] == sha256(train)
    assert manifest.inputs[str(files[2])] == sha256(files[2])


def test_the_seed_decides(
    student: Path, teacher: Encoder, tiny_model: Path, files: list[Path], tmp_path: Path
):
    tokenizer = tiny_model / "tokenizer.json"
    said: list[str] = []
    distil_static(
        teacher, tokenizer, files, tmp_path / "again", settings=SETTINGS,
        report=lambda what, _done, _of: said.append(what),
    )  # fmt: skip
    distil_static(teacher, tokenizer, files, tmp_path / "other", settings=replace(SETTINGS, seed=1))
    name = "model.safetensors"
    assert sha256(tmp_path / "again" / name) == sha256(student / name)
    assert sha256(tmp_path / "other" / name) != sha256(student / name)
    assert sha256(tmp_path / "again" / "tokenizer.json") == sha256(student / "tokenizer.json")
    assert {line.split(",")[0] for line in said} == {
        "files read", "tokens counted", "teacher's vectors of tokens",
        "teacher's vectors of texts", "training",
    }  # fmt: skip


def test_the_first_numbers_carry_most(student: Path):
    texts = [f"{word} {topic}" for word in FILLERS for topic in TOPICS]
    vectors = Encoder.load(student).encode(texts)
    power = (vectors**2).sum(axis=0)
    assert power[:8].sum() > 0.75 * power.sum()
    assert Encoder.load(student, dim=8).encode(["fever"]).shape == (1, 8)


def test_single_texts_alone_teach_it_the_teacher(
    teacher: Encoder, tiny_model: Path, files: list[Path], tmp_path: Path
):
    texts = read_texts(files[0]).positives
    wanted = teacher.encode_document(texts)
    found = []
    for steps in (0, 60):
        settings = replace(SETTINGS, steps=steps, teacher_texts=90)
        out = tmp_path / str(steps)
        (tmp_path / "texts.txt").write_text("\n".join(texts))
        tokenizer = tiny_model / "tokenizer.json"
        manifest = distil_static(
            teacher, tokenizer, [tmp_path / "texts.txt"], out, settings=settings
        )
        assert manifest.counts["pairs"] == 0
        vectors = torch.from_numpy(Encoder.load(out).encode(texts))
        found.append(agreement(vectors, torch.from_numpy(wanted), 0.05).item())
    assert found[1] < 0.7 * found[0]


def test_agreement_is_the_divergence_over_the_others():
    random = torch.Generator().manual_seed(0)
    texts, teacher = (torch.randn(5, 4, generator=random).double() for _ in range(2))
    teacher = teacher / teacher.norm(dim=1, keepdim=True)
    unit = texts / texts.norm(dim=1, keepdim=True)
    total = 0.0
    for row in range(5):
        others = [other for other in range(5) if other != row]
        found, wanted = (torch.softmax(x[others] @ x[row] / 0.1, dim=0) for x in (unit, teacher))
        total += float((wanted * (wanted / found).log()).sum())
    assert agreement(texts, teacher, 0.1).item() == pytest.approx(total / 5)
    assert agreement(3 * teacher, teacher, 0.1).item() == pytest.approx(0)


def test_frequent_words_become_tokens_and_rare_ones_stay_pieces(tiny_model: Path):
    base = Tokenizer.from_file(str(tiny_model / "tokenizer.json"))
    texts = [*["Hepatocellular cancer"] * 9, *["nephritic cancer"] * 2]
    made = adapted(base, texts, 200)
    assert made.encode("HEPATOCELLULAR cancer").tokens == ["hepatocellular", "cancer"]
    assert made.encode("nephritic").tokens[:2] == ["n", "##e"]
    assert made.encode("發").tokens == ["[UNK]"]
    assert made.token_to_id("[UNK]") == 0
    assert made.token_to_id("[CLS]") is None
    assert made.token_to_id("insulin") is None  # no text uses it
    assert made.encode("a " * 2000).ids == [made.token_to_id("a")] * 2000
    # Letters and the unknown one stay whatever the size.
    assert adapted(base, texts, 20).get_vocab_size() == 1 + 2 * 26
    again = adapted(base, texts, 200)
    assert again.to_str() == made.to_str()


def test_another_tokenizer_is_refused():
    from tokenizers import models

    with pytest.raises(ModernPubMedError, match="BPE, not WordPiece"):
        adapted(Tokenizer(models.BPE()), ["fever"], 100)


def test_rows_of_bags(tiny_model: Path):
    made = bags(Tokenizer.from_file(str(tiny_model / "tokenizer.json")), ["fever", "", "in of a"])
    assert len(made) == 3
    ids, offsets = made.take(np.array([2, 1, 0, 2]))
    assert offsets.tolist() == [0, 3, 3, 4]
    assert ids.tolist() == [*made.ids[1:], made.ids[0], *made.ids[1:]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pdf", "x", "neither pairs nor texts"),
        ("a.txt", "\n \n", "holds no text"),
        ("a.jsonl", '{"name": "x"}\n', "line 1: holds no text"),
        ("a.jsonl", '{"text": 3}\n', "line 1: holds no text"),
        ("a.jsonl", '{"title": "x"}\n{"title": "x", "abstract": "y"}\n', "line 2: is a pair"),
        ("a.jsonl", "{\n", "line 1: not JSON"),
        ("a.parquet", "x", "not a readable Parquet"),
        ("a.txt.zst", "x", "cannot be read"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, name: str, content: str, message: str):
    (tmp_path / name).write_text(content)
    with pytest.raises(ModernPubMedError, match=message):
        read_texts(tmp_path / name)


def test_what_cannot_be_distilled_is_refused(
    student: Path, teacher: Encoder, tiny_model: Path, files: list[Path], tmp_path: Path
):
    tokenizer, out = tiny_model / "tokenizer.json", tmp_path / "out"
    for settings, message in (
        (replace(SETTINGS, dim=33), "dim is 33, and the vectors of tiny have 32"),
        (replace(SETTINGS, tokens=16), "tokens is 16"),
        (replace(SETTINGS, teacher_texts=1), "teacher texts is 1"),
        (replace(SETTINGS, teacher_characters=3), "0 different texts"),
    ):
        with pytest.raises(ModernPubMedError, match=message):
            distil_static(teacher, tokenizer, files, out, settings=settings)
    with pytest.raises(ModernPubMedError, match="exists already"):
        distil_static(teacher, tokenizer, files, student, settings=SETTINGS)
    with pytest.raises(ModernPubMedError, match="not a readable tokenizer"):
        distil_static(teacher, tmp_path / "none.json", files, out, settings=SETTINGS)
    with pytest.raises(ModernPubMedError, match="no such file of pairs"):
        distil_static(teacher, tokenizer, [tmp_path], out, settings=SETTINGS)
    assert not out.exists()


def test_the_command_line(
    tiny_model: Path, files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "static"
    command = ["distil", "static", str(tiny_model), *map(str, files), "--out", str(out)]
    options = ["--dim", "8", "--tokens", "70", "--steps", "2", "--teacher-texts", "20"]
    assert main([*command, *options, "--seed", "3"]) == 0
    assert f"{out}: 70 tokens, " in capsys.readouterr().out
    made = Manifest.read(out)
    wanted = Settings(dim=8, tokens=70, steps=2, teacher_texts=20, seed=3)
    assert Settings(**made.settings["static"]) == wanted
    assert Encoder.load(out).dimension == 8
    assert main(command) == 2
    assert "exists already" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["distil"])

from __future__ import annotations

import dataclasses
import json
import os
import signal
from pathlib import Path
from random import Random

import numpy as np
import pytest
from safetensors.numpy import load_file
from sentence_transformers import SentenceTransformer

from modernpubmed.encoder import Encoder
from modernpubmed.encoder.export import export
from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import Manifest
from modernpubmed.pairs.sentences import sentences
from modernpubmed.training.nano import distil_nano
from modernpubmed.training.nano_lesson import NanoSettings
from modernpubmed.training.nano_model import start_embeddings, token_texts, train_tokenizer
from modernpubmed.training.recipe import Recipe
from modernpubmed.training.runs import checkpoints, read_log
from modernpubmed.training.train import TrainingStoppedError, train

WORDS = """
the of in and with after for patient patients fever cough asthma children liver kidney heart acute
chronic failure treatment surgery infection therapy cancer disease blood pressure high low dose
randomised trial cohort study risk outcome mortality diabetes insulin glucose stroke
""".split()

SETTINGS = NanoSettings(
    vocabulary=160,
    dim=16,
    layers=2,
    heads=2,
    intermediate=24,
    read_tokens=24,
    held_out=8,
    steps=12,
    batch_tokens=160,
    learning_rate=5e-3,
    warmup_steps=2,
    precision="fp32",
    checkpoint_every=4,
)


class Bag:
    """A teacher whose vectors are means of random ones, one for each word."""

    name = "bag"
    fingerprint = "0" * 64
    dimension = 24
    truncated = 0

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode_document(self, texts):
        self.asked += texts
        rows = []
        for text in texts:
            words = text.lower().replace(".", " ").split() or [""]
            seeds = [sum(ord(c) * 31**i for i, c in enumerate(word)) % 2**32 for word in words]
            rows.append(
                sum(np.random.default_rng(seed).normal(size=self.dimension) for seed in seeds)
            )
        vectors = np.array(rows, dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    random = Random(3)
    lines = [" ".join(random.sample(WORDS, random.randint(2, 12))) for _ in range(150)]
    lines[5] = " ".join(random.choices(WORDS, k=60))
    lines[6] = "Acute fever in children. Chronic cough after surgery."
    lines[7] = lines[8]
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def weights(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "model.safetensors")


def with_settings(**changes) -> NanoSettings:
    return dataclasses.replace(SETTINGS, **changes)


def test_the_student_learns_where_the_teacher_puts_texts(texts: Path, tmp_path: Path):
    out, said = tmp_path / "nano", []
    settings = with_settings(steps=40, checkpoint_every=20)
    manifest = distil_nano(
        Bag(),
        [texts],
        out,
        settings=settings,
        split=sentences,
        report=lambda what, _done, _of: said.append(what),
    )
    log = read_log(tmp_path / "nano.run" / "log.jsonl")
    losses = [record["loss"] for record in log if "loss" in record]
    assert losses[-1] < 0.7 * losses[0]
    held = [record["held_out_cosine"] for record in log if "held_out_cosine" in record]
    assert held[-1] > 0.3
    assert any(what.startswith("training, loss") and "left" in what for what in said)
    # 149 different lines, one of them of two sentences.
    assert manifest.counts["texts"] == 151
    assert manifest.counts["taught"] == 143
    assert manifest.counts["held_out"] == 8
    assert Manifest.read(out) == manifest
    assert list(manifest.inputs) == ["teacher", str(texts)]


def test_the_folder_loads_alike_everywhere(texts: Path, tmp_path: Path):
    out = tmp_path / "nano"
    distil_nano(Bag(), [texts], out, settings=SETTINGS)
    export(out, half=True)
    model = SentenceTransformer(str(out), device="cpu")
    encoder = Encoder.load(out)
    assert model.max_seq_length == encoder.max_tokens == 2048
    random = Random(5)
    for words, least in ((8, 10), (900, 1200)):
        asked = [" ".join(random.choices(WORDS, k=words)) for _ in range(2)]
        ours, theirs = encoder.encode(asked), model.encode(asked)
        assert ours.shape == (2, 16)
        assert (ours * theirs).sum(axis=1).min() > 0.9999
        tokens = encoder._model.tokenizer.encode(asked[0]).ids
        assert least <= len(tokens) <= 2048
    assert "token_type_ids" not in model.tokenize(["fever"])


def test_a_stopped_run_goes_on_to_the_same_bits(texts: Path, tmp_path: Path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    distil_nano(Bag(), [texts], whole, settings=SETTINGS)

    def stop(what: str, done: int, _of: int) -> None:
        if what.startswith("training") and done == 10:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(TrainingStoppedError, match="step 10"):
        distil_nano(Bag(), [texts], parts, settings=SETTINGS, report=stop)
    assert not parts.exists()
    saved = checkpoints(tmp_path / "parts.run" / "checkpoints")
    assert [path.name for path in saved] == ["checkpoint-8", "checkpoint-10"]
    # A checkpoint is a model that can be used.
    assert Encoder.load(saved[-1]).encode(["acute fever"]).shape == (1, 16)
    teacher = Bag()
    distil_nano(teacher, [texts], parts, settings=SETTINGS)
    assert teacher.asked == []
    left, right = weights(whole), weights(parts)
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        np.testing.assert_array_equal(tensor, right[name])
    steps = [r["step"] for r in read_log(tmp_path / "parts.run" / "log.jsonl") if "loss" in r]
    assert steps == [10, 12]


def test_a_run_may_be_given_more_steps_but_nothing_else(texts: Path, tmp_path: Path):
    out = tmp_path / "nano"
    distil_nano(Bag(), [texts], out, settings=with_settings(steps=4))
    again = tmp_path / "again"
    (tmp_path / "nano.run").rename(tmp_path / "again.run")
    with pytest.raises(ModernPubMedError, match=r"settings\.learning_rate"):
        distil_nano(Bag(), [texts], again, settings=with_settings(learning_rate=1e-4))
    with pytest.raises(ModernPubMedError, match="at step 4 already"):
        distil_nano(Bag(), [texts], again, settings=with_settings(steps=3))
    manifest = distil_nano(Bag(), [texts], again, settings=with_settings(steps=6))
    assert manifest.counts["steps"] == 6


def test_vectors_are_shared(texts: Path, tmp_path: Path):
    cache, first, second = tmp_path / "cache", Bag(), Bag()
    distil_nano(first, [texts], tmp_path / "a", settings=with_settings(steps=1), cache=cache)
    settings = with_settings(steps=1, layers=1)
    distil_nano(second, [texts], tmp_path / "b", settings=settings, cache=cache)
    tokens = json.loads((tmp_path / "b" / "tokenizer.json").read_text())["model"]["vocab"]
    # Nothing but the tokens, which the student starts from.
    assert len(first.asked) == len(tokens) + 149
    assert len(second.asked) == len(tokens)
    # Teacher and student read as much of a long text.
    assert max(len(text.split()) for text in first.asked) <= 22


def test_at_step_0_it_is_a_weighted_mean(texts: Path, tmp_path: Path):
    out = tmp_path / "nano"
    distil_nano(Bag(), [texts], out, settings=with_settings(steps=1, learning_rate=1e-9))
    log = read_log(tmp_path / "nano.run" / "log.jsonl")
    assert log[-1]["held_out_cosine"] > 0.5
    table = start_embeddings(np.eye(8, 12, dtype=np.float32), np.array([0] * 5 + [10**6, 1, 0]))
    sizes = np.linalg.norm(table, axis=1)
    assert sizes[0] == 0
    np.testing.assert_allclose(sizes[1:], sizes[1], rtol=1e-5)
    said = np.linalg.norm(table[:, :-2], axis=1)
    assert 0 < said[5] < 0.01 * sizes[5]


def test_a_tokenizer_of_the_texts(texts: Path):
    tokenizer = train_tokenizer(texts.read_text().splitlines(), 400)
    assert tokenizer.get_vocab_size() <= 400
    encoding = tokenizer.encode("Acute FÉVER")
    assert encoding.tokens[0] == "[CLS]"
    assert encoding.tokens[-1] == "[SEP]"
    assert encoding.ids == tokenizer.encode("acute fever").ids
    names = token_texts(tokenizer)
    assert names[0] == "[PAD]"
    assert "fever" in names
    again = train_tokenizer(texts.read_text().splitlines(), 400)
    assert again.to_str() == tokenizer.to_str()
    # The same word after a space and after a bracket.
    assert "▁fever" in tokenizer.encode("(fever)").tokens


def test_it_is_a_base_for_training(texts: Path, pairs: Path, recipe: Recipe, tmp_path: Path):
    nano, out = tmp_path / "nano", tmp_path / "tuned"
    distil_nano(Bag(), [texts], nano, settings=SETTINGS)
    train(recipe, pairs, out, base=str(nano))
    before, after = weights(nano), weights(out)
    assert before.keys() == after.keys()
    assert any((before[name] != after[name]).any() for name in before)
    assert Encoder.load(out).encode(["acute fever"]).shape == (1, 16)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"dim": 32}, "dim is 32"),
        ({"dim": 18}, "dim is 18"),
        ({"batch_tokens": 8}, "batch tokens is 8"),
        ({"steps": 0}, "steps is 0"),
        ({"learning_rate": 0.0}, "learning rate is 0"),
        ({"cooldown": 1.5}, "cooldown is 1.5"),
        ({"precision": "fp8"}, "precision is fp8"),
    ],
)
def test_settings_out_of_range(changes, cause: str, texts: Path, tmp_path: Path):
    with pytest.raises(ModernPubMedError, match=cause):
        distil_nano(Bag(), [texts], tmp_path / "nano", settings=with_settings(**changes))
    assert not (tmp_path / "nano.run").exists()


def test_what_is_refused(texts: Path, tmp_path: Path):
    few = tmp_path / "few.txt"
    few.write_text("fever\ncough\nfever\n")
    with pytest.raises(ModernPubMedError, match="2 different texts"):
        distil_nano(Bag(), [few], tmp_path / "nano", settings=SETTINGS)
    with pytest.raises(ModernPubMedError, match="exists already"):
        distil_nano(Bag(), [texts], tmp_path, settings=SETTINGS)

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sentence_transformers import SentenceTransformer

from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import Manifest, sha256
from modernpubmed.records import PAIR_SCHEMA, Pair, pair_to_row
from modernpubmed.training.recipe import Recipe, read_recipe
from modernpubmed.training.train import TrainingStoppedError, last_checkpoint, train

TOPICS = ("heart", "liver", "kidney", "cough", "asthma", "stroke", "insulin", "cancer")
FORMS = ("acute", "chronic", "high", "low", "children", "patients")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    folder = tmp_path / "pairs"
    folder.mkdir()
    rows = [
        pair_to_row(Pair(f"{form} {topic}", f"a study of {topic} disease with {form} risk"))
        for topic in TOPICS
        for form in FORMS
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=PAIR_SCHEMA), folder / "train.parquet")
    pq.write_table(pa.Table.from_pylist(rows[::3], schema=PAIR_SCHEMA), folder / "dev.parquet")
    return folder


@pytest.fixture
def recipe() -> Recipe:
    mini = read_recipe(Path(__file__).parents[2] / "recipes" / "mini.toml")
    run = dataclasses.replace(
        mini.run, batch_size=8, steps=12, checkpoint_every=4, evaluate_every=6, dev_pairs=16
    )
    tokens = dataclasses.replace(mini.tokens, train=16, serve=32)
    optimizer = dataclasses.replace(mini.optimizer, learning_rate=3e-3, warmup_steps=2)
    return dataclasses.replace(mini, run=run, tokens=tokens, optimizer=optimizer)


def weights(folder: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(folder / "model.safetensors")


def test_training_learns_and_says_what_it_did(
    pairs: Path, recipe: Recipe, tiny_model: Path, tmp_path: Path
):
    records: list[dict] = []
    out = tmp_path / "model"
    train(recipe, pairs, out, base=str(tiny_model), report=records.append)
    losses = [record["loss"] for record in records if "loss" in record]
    dev = [r["eval_dev_cosine_ndcg@10"] for r in records if "eval_dev_cosine_ndcg@10" in r]
    assert losses
    assert len(dev) == 2
    assert dev[-1] > 0.5  # at random 16 documents give about 0.28
    model = SentenceTransformer(str(out), device="cpu")
    assert model.max_seq_length == 32
    manifest = Manifest.read(out)
    assert manifest.inputs == {
        "train_pairs": sha256(pairs / "train.parquet"),
        "dev_pairs": sha256(pairs / "dev.parquet"),
        "base_weights": sha256(tiny_model / "model.safetensors"),
    }
    assert manifest.counts == {"train_pairs": 48, "dev_pairs": 16, "pairs_seen": 96}
    assert manifest.settings["recipe"]["run"]["batch_size"] == 8
    log = [json.loads(line) for line in (tmp_path / "model.run" / "log.jsonl").open()]
    assert log == json.loads(json.dumps(records))
    assert not (tmp_path / "model.run" / "checkpoints").exists()


def test_ctrl_c_saves_and_the_same_command_goes_on(
    pairs: Path, recipe: Recipe, tiny_model: Path, tmp_path: Path
):
    whole = tmp_path / "whole"
    train(recipe, pairs, whole, base=str(tiny_model))

    def interrupt(record: dict) -> None:
        if "eval_dev_cosine_ndcg@10" in record and record["step"] == 6:
            os.kill(os.getpid(), signal.SIGINT)

    out = tmp_path / "stopped"
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(TrainingStoppedError) as stopped:
        train(recipe, pairs, out, base=str(tiny_model), report=interrupt)
    assert stopped.value.step in (6, 7)
    assert signal.getsignal(signal.SIGINT) is handler
    assert not out.exists()
    steps: list[int] = []
    train(
        recipe,
        pairs,
        out,
        base=str(tiny_model),
        report=lambda record: steps.append(record["step"]),
    )
    assert min(steps) > 6
    first, second = weights(whole), weights(out)
    for name, values in first.items():
        np.testing.assert_allclose(second[name], values, atol=1e-5, err_msg=name)


def test_a_run_is_not_continued_with_another_recipe(
    pairs: Path, recipe: Recipe, tiny_model: Path, tmp_path: Path
):
    out = tmp_path / "model"
    train(recipe, pairs, out, base=str(tiny_model))
    with pytest.raises(ModernPubMedError, match="exists already"):
        train(recipe, pairs, out, base=str(tiny_model))
    shutil.rmtree(out)
    other = dataclasses.replace(recipe, loss=dataclasses.replace(recipe.loss, temperature=0.1))
    with pytest.raises(ModernPubMedError, match="another recipe"):
        train(other, pairs, out, base=str(tiny_model))


def test_a_checkpoint_that_was_cut_short_is_passed_over(tmp_path: Path):
    for step, names in {
        4: ["optimizer.pt", "scheduler.pt", "trainer_state.json"],
        12: ["optimizer.pt", "scheduler.pt"],
        8: ["optimizer.pt", "scheduler.pt", "trainer_state.json"],
    }.items():
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        for name in names:
            (folder / name).touch()
    found = last_checkpoint(tmp_path)
    assert found is not None
    assert found.name == "checkpoint-8"
    assert last_checkpoint(tmp_path / "none") is None


def test_too_few_pairs_no_pairs_and_broken_pairs_are_refused(
    pairs: Path, recipe: Recipe, tiny_model: Path, tmp_path: Path
):
    out = tmp_path / "model"
    large = dataclasses.replace(recipe, run=dataclasses.replace(recipe.run, batch_size=49))
    with pytest.raises(ModernPubMedError, match="48 pairs are fewer than one batch of 49"):
        train(large, pairs, out, base=str(tiny_model))
    with pytest.raises(ModernPubMedError, match="no such file"):
        train(recipe, tmp_path / "nowhere", out, base=str(tiny_model))
    (pairs / "dev.parquet").write_bytes(b"PAR1 junk")
    with pytest.raises(ModernPubMedError, match=r"dev\.parquet"):
        train(recipe, pairs, out, base=str(tiny_model))
    pq.write_table(pa.table({"anchor": ["a"], "title": ["b"]}), pairs / "train.parquet")
    with pytest.raises(ModernPubMedError, match="positive"):
        train(recipe, pairs, out, base=str(tiny_model))
    table = pa.table({"anchor": ["a", "b"], "positive": ["c", " "]})
    pq.write_table(table, pairs / "train.parquet")
    with pytest.raises(ModernPubMedError, match="row 1: empty text"):
        train(recipe, pairs, out, base=str(tiny_model))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs"]


def test_a_base_without_weights_is_refused(pairs: Path, recipe: Recipe, tiny_model: Path, tmp_path):
    base = Path(shutil.copytree(tiny_model, tmp_path / "base"))
    (base / "model.safetensors").unlink()
    with pytest.raises(ModernPubMedError, match="cannot be loaded as a model") as caught:
        train(recipe, pairs, tmp_path / "model", base=str(base))
    assert "\n" not in str(caught.value)
    with pytest.raises(ModernPubMedError, match="nowhere"):
        train(recipe, pairs, tmp_path / "model", base=str(tmp_path / "nowhere"))
    assert not (tmp_path / "model.run").exists()

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file, save_file
from sentence_transformers import SentenceTransformer

from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import Manifest, sha256
from modernpubmed.pairs import write_pairs
from modernpubmed.records import Pair
from modernpubmed.training import trainer
from modernpubmed.training.recipe import Precision, Recipe
from modernpubmed.training.runs import checkpoints, differences, read_log
from modernpubmed.training.step import gradient
from modernpubmed.training.train import TrainingStoppedError, train

MEASURED = {"tokens_per_second", "pairs_per_second"}


def weights(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "model.safetensors")


def with_run(recipe: Recipe, **changes) -> Recipe:
    return dataclasses.replace(recipe, run=dataclasses.replace(recipe.run, **changes))


def with_source(recipe: Recipe, **changes) -> Recipe:
    return dataclasses.replace(recipe, sources=(dataclasses.replace(recipe.sources[0], **changes),))


def test_training_learns_and_says_what_it_did(
    pairs: Path, recipe: Recipe, tiny_model: Path, tmp_path: Path
):
    records: list[dict] = []
    out = tmp_path / "model"
    longer = with_run(recipe, steps=24)
    train(longer, pairs, out, base=str(tiny_model), report=records.append)
    assert records[0]["epochs"] == {"title-abstract": 4.0}
    assert records[0]["pairs"]["title-abstract"]["pairs"] == 48
    dev = [record["dev_ndcg@10"] for record in records if "dev_ndcg@10" in record]
    assert len(dev) == 4
    assert dev[-1] > 0.4  # at random 16 documents give about 0.28
    model = SentenceTransformer(str(out), device="cpu")
    assert model.max_seq_length == 32
    manifest = Manifest.read(out)
    assert manifest.inputs == {
        "train_pairs": sha256(pairs / "train.parquet"),
        "dev_pairs": sha256(pairs / "dev.parquet"),
        "base_weights": sha256(tiny_model / "model.safetensors"),
    }
    assert manifest.counts == {
        "train_pairs": 48,
        "dev_pairs": 16,
        "steps": 24,
        "pairs_seen": 192,
        "anchors_cut": 0,
        "positives_cut": 0,
    }
    assert manifest.settings["recipe"]["sources"][0]["batch_size"] == 8
    log = read_log(tmp_path / "model.run" / "log.jsonl")
    steps = [record for record in log if "loss" in record]
    assert [record["step"] for record in steps] == list(range(1, 25))
    losses = [record["loss"] for record in steps]
    assert sum(losses[-6:]) < sum(losses[:6])
    for record in steps:
        assert 0 <= record["padding"] < 0.5
        assert 0 <= record["accuracy"] <= 1
        assert record["source"] == "title-abstract"
        assert record["grad_norm"] > 0
        assert record["tokens_per_second"] > 0
        assert record["learning_rate"] > 0 or record["step"] == 1
    assert not (tmp_path / "model.run" / "checkpoints").exists()
    assert not (tmp_path / "model.run" / "tokens").exists()


RECIPE = """
name = "killed"
license = "apache-2.0"
base = "ours"
max_tokens = 32
[[sources]]
name = "title-abstract"
anchor_tokens = 12
positive_tokens = 24
batch_size = 8
[loss]
temperature = 0.05
symmetric = true
[optimizer]
learning_rate = 1e-3
weight_decay = 0.01
warmup_steps = 4
schedule = "linear"
[run]
steps = 40
seed = 3
precision = "fp32"
checkpoint_every = 7
evaluate_every = 15
dev_pairs = 8
memory_tokens = 96
"""


@pytest.mark.slow
def test_killed_at_any_step_the_same_command_gives_the_same_bits(
    pairs: Path, tiny_model: Path, train_script: Path, tmp_path: Path
):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)

    def start(out: Path) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, train_script, recipe, pairs, out, tiny_model],
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    whole = tmp_path / "whole"
    assert start(whole).wait() == 0
    out = tmp_path / "killed"
    log = tmp_path / "killed.run" / "log.jsonl"
    for step in (3, 17, 23):  # before the first checkpoint, and between two
        process = start(out)
        while process.poll() is None:
            if log.exists() and f'"step": {step},' in log.read_text():
                process.kill()
                break
            time.sleep(0.002)
        assert process.wait() == -signal.SIGKILL
        assert not out.exists()
    assert start(out).wait() == 0
    first, second = weights(whole), weights(out)
    assert first.keys() == second.keys()
    for name, values in first.items():
        np.testing.assert_array_equal(second[name], values, err_msg=name)
    curves = [
        [
            {key: value for key, value in record.items() if key not in MEASURED}
            for record in read_log(tmp_path / f"{name}.run" / "log.jsonl")
        ]
        for name in ("whole", "killed")
    ]
    assert len(curves[0]) == 43  # 40 steps, 3 evaluations
    assert curves[0] == curves[1]
    assert any(record.get("cached") for record in curves[0])


def test_ctrl_c_saves_and_the_same_command_goes_on(
    pairs: Path, recipe: Recipe, tiny_model: Path, tmp_path: Path
):
    whole = tmp_path / "whole"
    train(recipe, pairs, whole, base=str(tiny_model))

    def interrupt(record: dict) -> None:
        if "dev_ndcg@10" in record and record["step"] == 6:
            os.kill(os.getpid(), signal.SIGINT)

    out = tmp_path / "stopped"
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(TrainingStoppedError) as stopped:
        train(recipe, pairs, out, base=str(tiny_model), report=interrupt)
    assert stopped.value.step in (6, 7)
    assert signal.getsignal(signal.SIGINT) is handler
    assert not out.exists()
    (tmp_path / "stopped.run" / "checkpoints" / "partial").mkdir()  # as a kill leaves it
    steps: list[int] = []
    train(
        recipe,
        pairs,
        out,
        base=str(tiny_model),
        report=lambda record: steps.append(record["step"]),
    )
    assert min(steps) >= 6
    first, second = weights(whole), weights(out)
    for name, values in first.items():
        np.testing.assert_array_equal(second[name], values, err_msg=name)


def test_dropout_is_off(
    pairs: Path, recipe: Recipe, tiny_model: Path, still_model: Path, tmp_path: Path
):
    short = with_run(recipe, steps=4, dev_pairs=0)
    train(short, pairs, tmp_path / "with", base=str(tiny_model))
    train(short, pairs, tmp_path / "without", base=str(still_model))
    config = json.loads((tmp_path / "with" / "config.json").read_text())
    assert config["hidden_dropout_prob"] == 0.1  # the model itself stays as it was
    first, second = weights(tmp_path / "with"), weights(tmp_path / "without")
    assert any((values != weights(tiny_model)[name]).any() for name, values in first.items())
    for name, values in first.items():
        np.testing.assert_array_equal(second[name], values, err_msg=name)


def test_a_run_is_not_continued_with_another_recipe(
    pairs: Path, recipe: Recipe, tiny_model: Path, tmp_path: Path
):
    out = tmp_path / "model"
    train(recipe, pairs, out, base=str(tiny_model))
    with pytest.raises(ModernPubMedError, match="exists already"):
        train(recipe, pairs, out, base=str(tiny_model))
    shutil.rmtree(out)
    other = with_run(recipe, seed=9)
    other = dataclasses.replace(other, loss=dataclasses.replace(other.loss, temperature=0.1))
    with pytest.raises(ModernPubMedError) as refused:
        train(other, pairs, out, base=str(tiny_model))
    assert "another recipe" in str(refused.value)
    assert "recipe.loss.temperature, recipe.run.seed" in str(refused.value)


def test_differences_are_named_with_their_place():
    before = {"sources": [{"weight": 1.0}, {"weight": 2.0}], "inputs": {"a": "x"}}
    now = {"sources": [{"weight": 1.0}, {"weight": 3.0}], "inputs": {"b": "x"}}
    assert differences(before, now) == [
        'inputs.a (was "x", is null)',
        'inputs.b (was null, is "x")',
        "sources[1].weight (was 2.0, is 3.0)",
    ]
    assert differences(now, now) == []


def test_checkpoints_are_kept_on_request_and_load_as_models(
    pairs: Path, recipe: Recipe, tiny_model: Path, tmp_path: Path
):
    kept = with_run(recipe, keep_checkpoints=3, checkpoint_every=2, dev_pairs=0)
    train(kept, pairs, tmp_path / "model", base=str(tiny_model))
    found = checkpoints(tmp_path / "model.run" / "checkpoints")
    assert [path.name for path in found] == ["checkpoint-8", "checkpoint-10", "checkpoint-12"]
    assert Manifest.read(found[0]).counts["pairs_seen"] == 64
    last = weights(found[-1])
    for name, values in weights(tmp_path / "model").items():
        np.testing.assert_array_equal(last[name], values)


def test_too_few_pairs_no_pairs_and_broken_pairs_are_refused(
    pairs: Path, recipe: Recipe, tiny_model: Path, tmp_path: Path
):
    out = tmp_path / "model"

    def refused(given: Recipe = recipe, folder: Path = pairs, base: Path = tiny_model) -> str:
        with pytest.raises(ModernPubMedError) as error:
            train(given, folder, out, base=str(base))
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "48" in refused(with_source(recipe, batch_size=49))
    assert "no such file" in refused(folder=tmp_path / "nowhere")
    assert "at most 64 tokens" in refused(with_source(recipe, positive_tokens=65))
    assert "modernpubmed mine" in refused(with_source(recipe, negatives=2))
    good = (pairs / "dev.parquet").read_bytes()
    (pairs / "dev.parquet").write_bytes(b"PAR1 junk")
    assert "dev.parquet" in refused()
    (pairs / "dev.parquet").write_bytes(good)
    for columns, words in (
        ({"anchor": ["a"], "title": ["b"]}, "positive"),
        ({"anchor": ["a", "b"], "positive": ["c", " "]}, "row 1: empty text"),
        ({"anchor": ["a", None], "positive": ["c", "d"]}, "row 1: null text"),
    ):
        pq.write_table(pa.table(columns), pairs / "train.parquet")
        assert words in refused()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs"]


def test_a_giant_text_is_cut_and_counted(
    pairs: Path, recipe: Recipe, tiny_model: Path, tmp_path: Path
):
    table = pq.read_table(pairs / "train.parquet")
    rows = table.to_pylist()
    rows[5]["positive"] = "liver disease " * 2_000_000
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), pairs / "train.parquet")
    start = time.perf_counter()
    manifest = train(with_run(recipe, steps=6), pairs, tmp_path / "model", base=str(tiny_model))
    assert manifest.counts["positives_cut"] == 1
    assert time.perf_counter() - start < 30


def test_a_loss_that_is_not_a_number_stops_and_names_the_pairs(
    pairs: Path, recipe: Recipe, tiny_model: Path, tmp_path: Path, monkeypatch
):
    calls = []

    def broken_at_the_fourth(model, *args, **kwargs):
        calls.append(True)
        if len(calls) == 4:
            next(iter(model.parameters())).data[3] = float("nan")
        return gradient(model, *args, **kwargs)

    monkeypatch.setattr(trainer, "gradient", broken_at_the_fourth)
    each = with_run(recipe, checkpoint_every=1, dev_pairs=0)
    out = tmp_path / "model"
    with pytest.raises(ModernPubMedError) as stopped:
        train(each, pairs, out, base=str(tiny_model))
    text = str(stopped.value)
    assert "the loss of step 4 is nan" in text
    assert str(pairs / "train.parquet") in text
    assert "(PMID 1" in text
    assert text.count("PMID") == 8
    kept = checkpoints(tmp_path / "model.run" / "checkpoints")
    assert [path.name for path in kept] == ["checkpoint-2", "checkpoint-3"]
    for path in kept:
        assert all(np.isfinite(values).all() for values in weights(path).values())
    assert not out.exists()


def test_a_gradient_that_overflows_stops_before_the_weights_are_touched(
    pairs: Path, recipe: Recipe, tiny_model: Path, tmp_path: Path
):
    wild = dataclasses.replace(recipe, loss=dataclasses.replace(recipe.loss, temperature=1e-30))
    with pytest.raises(ModernPubMedError, match=r"gradient norm of step 1 is (inf|nan)"):
        train(wild, pairs, tmp_path / "model", base=str(tiny_model))


def test_a_base_without_weights_or_with_another_tokenizer_is_refused(
    pairs: Path, recipe: Recipe, tiny_model: Path, tmp_path
):
    base = Path(shutil.copytree(tiny_model, tmp_path / "base"))
    (base / "model.safetensors").unlink()
    with pytest.raises(ModernPubMedError, match="cannot be loaded as a model") as caught:
        train(recipe, pairs, tmp_path / "model", base=str(base))
    assert "\n" not in str(caught.value)
    with pytest.raises(ModernPubMedError, match="nowhere"):
        train(recipe, pairs, tmp_path / "model", base=str(tmp_path / "nowhere"))

    short = weights(tiny_model)
    name = next(name for name in short if name.endswith("word_embeddings.weight"))
    short[name] = short[name][:50]
    save_file(short, base / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "vocab_size": 50}))
    with pytest.raises(ModernPubMedError, match="embeddings for 50 tokens"):
        train(recipe, pairs, tmp_path / "model", base=str(base))
    assert not (tmp_path / "model.run").exists()


def test_masks_distillation_matryoshka_contrast_and_sources_together(
    pairs: Path, recipe: Recipe, tiny_model: Path, tmp_path: Path
):
    folder = tmp_path / "sources"
    shutil.copytree(pairs, folder / "title-abstract")
    shutil.copytree(pairs, folder / "other")
    first = dataclasses.replace(recipe.sources[0], contrast="queries", weight=2.0)
    second = dataclasses.replace(
        first, name="other", contrast="documents", batch_size=6, weight=1.0
    )
    everything = dataclasses.replace(
        with_run(recipe, steps=9),
        sources=(first, second),
        loss=dataclasses.replace(recipe.loss, matryoshka=(16, 8), distillation=0.5),
        masks=dataclasses.replace(recipe.masks, guide=str(tiny_model)),
    )
    out = tmp_path / "model"
    manifest = train(everything, folder, out, base=str(tiny_model))
    assert set(manifest.inputs) == {
        "train_pairs/title-abstract",
        "train_pairs/other",
        "dev_pairs",
        "base_weights",
    }
    steps = [r for r in read_log(tmp_path / "model.run" / "log.jsonl") if "loss" in r]
    names = [record["source"] for record in steps]
    assert names.count("title-abstract") == 6
    assert names.count("other") == 3
    assert manifest.counts["pairs_seen"] == 6 * 8 + 3 * 6
    assert sum(record["masked"].get("guide", 0) for record in steps) > 0
    with pytest.raises(ModernPubMedError, match="no folder here"):
        train(everything, pairs, tmp_path / "model2", base=str(tiny_model))


def test_a_batch_of_one_subject(pairs: Path, recipe: Recipe, tiny_model: Path, tmp_path: Path):
    subjects = with_source(with_run(recipe, steps=6, precision="bf16"), batches="subject")
    train(subjects, pairs, tmp_path / "subject", base=str(tiny_model))
    lengths = with_run(recipe, steps=6, precision="bf16")
    train(lengths, pairs, tmp_path / "length", base=str(tiny_model))
    losses = [
        [record["loss"] for record in read_log(tmp_path / f"{name}.run" / "log.jsonl")[:6]]
        for name in ("subject", "length")
    ]
    assert losses[0][0] != losses[1][0]


@pytest.mark.parametrize(("precision", "plainly"), [("bf16", True), ("fp32", False)])
def test_attention_is_plain_in_bf16_on_a_cpu(
    pairs: Path,
    recipe: Recipe,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    precision: Precision,
    *,
    plainly: bool,
):
    used: list[str] = []

    def looked_at(model, *args, **kwargs):
        used.append(model[0].auto_model.config._attn_implementation)
        return gradient(model, *args, **kwargs)

    monkeypatch.setattr(trainer, "gradient", looked_at)
    out = tmp_path / "model"
    train(with_run(recipe, steps=1, precision=precision), pairs, out, base=str(tiny_model))
    assert (used == ["eager"]) is plainly
    assert "eager" not in (out / "config.json").read_text()


def test_the_integrations_are_told_what_we_measure(
    pairs: Path, recipe: Recipe, tiny_model: Path, tmp_path: Path, monkeypatch
):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "events"))
    train(recipe, pairs, tmp_path / "model", base=str(tiny_model), report_to=["tensorboard"])
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    assert {"train/loss", "train/accuracy", "train/padding"} <= set(events.Tags()["scalars"])
    assert events.Scalars("train/accuracy")[-1].step in (10, 12)


@pytest.mark.slow
def test_the_published_recipe_runs_on_a_modernbert_of_its_shape(
    pairs: Path, tiny_model: Path, tmp_path: Path
):
    from transformers import AutoTokenizer, ModernBertConfig, ModernBertModel

    from modernpubmed.training.recipe import read_recipe

    published = read_recipe(Path(__file__).parents[2] / "recipes" / "modernpubmedbert.toml")
    assert published.sources[0].batch_size == 72
    assert (published.run.steps, published.optimizer.warmup_steps) == (7000, 700)
    torch.manual_seed(1)
    # ModernBERT-base but for its vocabulary: 22 layers of 768, local attention in two of three.
    config = ModernBertConfig(
        vocab_size=200,
        pad_token_id=0,
        cls_token_id=2,
        sep_token_id=3,
        bos_token_id=2,
        eos_token_id=3,
    )
    assert (config.num_hidden_layers, config.hidden_size) == (22, 768)
    assert config.max_position_embeddings >= 2048
    base = tmp_path / "base"
    ModernBertModel(config).save_pretrained(base)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(base)
    random = np.random.default_rng(1)
    texts = [" ".join(random.choice(list("abcdefgh"), 30)) for _ in range(100)]
    rows = [Pair(text[:9], text, pmid=number + 1) for number, text in enumerate(texts)]
    write_pairs(rows, pairs / "train.parquet")
    short = dataclasses.replace(
        published, run=dataclasses.replace(published.run, steps=2, dev_pairs=4, evaluate_every=2)
    )
    manifest = train(short, pairs, tmp_path / "model", base=str(base))
    assert manifest.counts["pairs_seen"] == 144
    model = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    assert model.max_seq_length == 2048
    assert model.encode(["fever"]).shape == (1, 768)

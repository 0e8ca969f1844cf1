"""Our training against sentence-transformers' own, and the memory that a large batch takes.

    python benchmarks/training.py [--pairs PAIRS.parquet] [--base MODEL] [--rounds 3] [--memory]

The same model, pairs, maximum lengths, batch size, steps and learning rate; the rival is
``SentenceTransformerTrainer`` with ``MultipleNegativesRankingLoss``, as its documentation shows it,
and a second time with dropout switched off, as ours always is.
Timed are the steps, from asking for the batch to the end of the optimiser's work, without the
first. Without ``--pairs`` the texts are invented, with lengths as those of real titles and
abstracts (lognormal, cut at 512 tokens: 72 % of abstracts exceed 256, 12 % exceed 512).

Beside the ratio the line says what each side's loss on the same held-out batch was afterwards. With
``--memory`` one step of 1,024 pairs is taken with cached gradients and its peak memory reported.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from transformers import TrainerCallback

from modernpubmed.encoder.encoder import SHIPPED_MODEL
from modernpubmed.pairs import write_pairs
from modernpubmed.records import Pair
from modernpubmed.training.infonce import Objective, Vectors, info_nce
from modernpubmed.training.recipe import Loss, Optimizer, Recipe, Run, Source
from modernpubmed.training.runs import read_log
from modernpubmed.training.train import load_base, train, without_dropout

TOKENS = 512
SCALE = 20.0
LEARNING_RATE = 2e-5


def main() -> None:
    """Prints a JSON line for each measurement."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=Path, help="Parquet of pairs")
    parser.add_argument("--base", default=str(SHIPPED_MODEL))
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.memory:
            _memory(options, folder)
        else:
            _speed(options, folder)


def _speed(options: argparse.Namespace, folder: Path) -> None:
    needed = options.batch * (options.steps + 2)
    anchors, positives = _texts(options.pairs, needed)
    held = (anchors[-options.batch :], positives[-options.batch :])
    anchors, positives = anchors[: -options.batch], positives[: -options.batch]
    write_pairs(map(Pair, anchors, positives), folder / "train.parquet")
    rates: dict[str, list[float]] = {"ours": [], "theirs": [], "theirs without dropout": []}
    losses: dict[str, list[float]] = {side: [] for side in rates}
    padding: list[float] = []
    for number in range(options.rounds):
        for side in list(rates)[:: 1 if number % 2 else -1]:
            if side == "ours":
                model, seconds, wasted = _ours(options, folder, number)
                padding.append(wasted)
            else:
                still = side.endswith("dropout")
                model, seconds = _theirs(options, anchors, positives, folder, still=still)
            rates[side].append(options.batch / statistics.mean(seconds[1:]))
            losses[side].append(_loss(model, *held))
    before = _loss(load_base(options.base), *held)
    for rival in list(rates)[1:]:
        ratios = [ours / theirs for ours, theirs in zip(rates["ours"], rates[rival], strict=True)]
        print(
            json.dumps(
                {
                    "name": f"training, pairs a second (batch {options.batch}, up to {TOKENS} "
                    f"tokens): against SentenceTransformerTrainer{rival.removeprefix('theirs')}",
                    "ratio": round(statistics.median(ratios), 2),
                    "low": round(min(ratios), 2),
                    "high": round(max(ratios), 2),
                    "target": 1.5,
                    "ours pairs/s": round(statistics.median(rates["ours"]), 2),
                    "theirs pairs/s": round(statistics.median(rates[rival]), 2),
                    "ours padding": round(statistics.mean(padding), 4),
                    "held-out loss": round(before, 4),
                    "after ours": round(statistics.mean(losses["ours"]), 4),
                    "after theirs": round(statistics.mean(losses[rival]), 4),
                    "machine": _machine(),
                }
            )
        )


def _memory(options: argparse.Namespace, folder: Path) -> None:
    anchors, positives = _texts(options.pairs, 1_024)
    write_pairs(map(Pair, anchors, positives), folder / "train.parquet")
    start = time.perf_counter()
    train(_recipe(1_024, 1), folder, folder / "out", base=options.base)
    log = [record for record in read_log(folder / "out.run" / "log.jsonl") if "loss" in record]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        json.dumps(
            {
                "name": f"peak memory of a step of 1,024 pairs, up to {TOKENS} tokens, GiB",
                "gigabytes": round(peak, 2),
                "target": 6,
                "cached": log[0]["cached"],
                "tokens": log[0]["tokens"],
                "seconds": round(time.perf_counter() - start),
                "machine": _machine(),
            }
        )
    )


def _texts(pairs: Path | None, count: int) -> tuple[list[str], list[str]]:
    if pairs is not None:
        table = pq.read_table(pairs, columns=["anchor", "positive"])
        table = table.take([row * len(table) // count for row in range(count)])
        return table["anchor"].to_pylist(), table["positive"].to_pylist()
    random = np.random.default_rng(1)
    words = np.array([f"{a}{b}{c}" for a in "bdklmprst" for b in "aeiou" for c in "nrst"])
    texts = []
    for middle, spread in ((2.3, 0.35), (5.0, 0.42)):  # in words of about 2.2 tokens
        lengths = np.clip(random.lognormal(middle, spread, count), 4, 400).astype(int)
        texts.append([" ".join(random.choice(words, length)) for length in lengths])
    return texts[0], texts[1]


def _recipe(batch: int, steps: int) -> Recipe:
    return Recipe(
        name="benchmark",
        license="mit",
        base="",
        max_tokens=TOKENS,
        sources=(Source("pairs", TOKENS, anchor_tokens=TOKENS, batch_size=batch),),
        loss=Loss(1 / SCALE, symmetric=False),
        optimizer=Optimizer(LEARNING_RATE, 0.0, 0, "constant"),
        run=Run(steps, 1, "auto", 1_000_000, 1_000_000, 0),
    )


def _ours(
    options: argparse.Namespace, folder: Path, number: int
) -> tuple[SentenceTransformer, list[float], float]:
    out = folder / f"ours{number}"
    train(_recipe(options.batch, options.steps + 1), folder, out, base=options.base)
    log = [r for r in read_log(folder / f"ours{number}.run" / "log.jsonl") if "loss" in r]
    wasted = statistics.mean(record["padding"] for record in log)
    return load_base(str(out)), [r["pairs"] / r["pairs_per_second"] for r in log], wasted


class _Clock(TrainerCallback):  # type: ignore[misc]
    """The seconds of each step, from the end of the one before."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.last = 0.0

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002
        self.last = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002
        now = time.perf_counter()
        self.seconds.append(now - self.last)
        self.last = now


def _theirs(
    options: argparse.Namespace,
    anchors: list[str],
    positives: list[str],
    folder: Path,
    *,
    still: bool,
) -> tuple[SentenceTransformer, list[float]]:
    model = load_base(options.base)
    if still:
        without_dropout(model)
    model.max_seq_length = TOKENS
    clock = _Clock()
    SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(
            output_dir=str(folder / "theirs"),
            max_steps=options.steps + 1,
            per_device_train_batch_size=options.batch,
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            bf16=torch.cuda.is_available(),
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_strategy="no",
            dataloader_drop_last=True,
        ),
        train_dataset=Dataset.from_dict({"anchor": anchors, "positive": positives}),
        loss=MultipleNegativesRankingLoss(model, scale=SCALE),
        callbacks=[clock],
    ).train()
    return model, clock.seconds


def _loss(model: SentenceTransformer, anchors: list[str], positives: list[str]) -> float:
    model.max_seq_length = TOKENS
    with torch.inference_mode():
        vectors = [model.encode(texts, convert_to_tensor=True) for texts in (anchors, positives)]
    return float(info_nce(Vectors.of_pairs(*vectors), Objective(1 / SCALE)).loss)


def _machine() -> str:
    return (
        f"{platform.machine()}, {os.cpu_count()} CPUs, {torch.get_num_threads()} threads, "
        f"load {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    main()

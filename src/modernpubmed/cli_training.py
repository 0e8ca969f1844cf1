"""The command line's verbs that make models: train, mine, plot, export, average.

As in ``cli.py``: arguments in, one call, print.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from modernpubmed.encoder import Encoder
from modernpubmed.errors import ModernPubMedError, needs_extra
from modernpubmed.lines import text_lines
from modernpubmed.terminal import AddVerb, clear, report, say, summary

Record = TypeVar("Record")


def add_training_verbs(verb: AddVerb) -> None:
    """Adds them, in the order in which they are listed."""
    add = verb("train", _train, "fine-tune an encoder on pairs with InfoNCE")
    add.add_argument("recipe", type=Path, help="a TOML file, see recipes/")
    add.add_argument("--pairs", type=Path, required=True, help="what 'pairs' wrote")
    add.add_argument("--base", help="local folder or hub name instead of the recipe's base")
    add.add_argument("--cache", type=Path, help="folder for tokenised pairs that runs share")
    add.add_argument(
        "--report-to", nargs="+", default=[], metavar="TO", help="tensorboard, wandb, trackio …"
    )
    add.add_argument(
        "--out", type=Path, required=True, help="the model folder to make; OUT.run keeps the state"
    )

    add = verb("mine", _mine, "find hard negatives for pairs")
    add.add_argument("pairs", type=Path, help="what 'pairs' wrote, or a Parquet file of pairs")
    add.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder for the pairs with their negatives; 'train' reads it",
    )
    add.add_argument("--negatives", type=int, default=4, help="a pair; default %(default)s")
    add.add_argument("--depth", type=int, default=50, help="candidates looked at, of each search")
    add.add_argument("--margin", type=float, default=0.95, help="of the positive's score, at most")
    add.add_argument(
        "--mesh-overlap", type=float, default=0.4, help="articles this alike are no negatives"
    )
    add.add_argument("--model", help="folder, name in the package or hub name; default mini")

    add = verb("plot", _plot, "draw a training run")
    add.add_argument("run", type=Path, help="OUT.run, beside the model")
    add.add_argument("--out", type=Path, required=True, help="a .png or .svg file")

    add = verb("export", _export, "write the graph that runs a model without torch")
    add.add_argument("model", type=Path, help="a sentence-transformers folder")
    add.add_argument("--fp16", action="store_true", help="round the weights to fp16 first")
    add.add_argument("--int8", action="store_true", help="write a graph in eight bits too")
    add.add_argument(
        "--calibrate",
        type=Path,
        metavar="FILE",
        help="texts, one a line, or pairs (.parquet, .jsonl) to set int8's ranges by; default a "
        "few of our own",
    )

    add = verb("average", _average, "average the weights of models")
    add.add_argument("models", nargs="+", type=Path, help="two or more model folders")
    add.add_argument("--weights", type=float, nargs="+", help="one a model; default equal")
    add.add_argument("--out", type=Path, required=True, help="the model folder to make")


def _train(options: argparse.Namespace) -> None:
    from modernpubmed.training.recipe import read_recipe

    recipe = read_recipe(options.recipe)
    with needs_extra("train", "training"):
        from modernpubmed.training.train import TrainingStoppedError, train
    start = time.monotonic()

    def log(record: dict[str, Any]) -> None:
        clear()
        for line in _training_lines(record, time.monotonic() - start):
            print(line, file=sys.stderr, flush=True)  # noqa: T201

    try:
        manifest = train(
            recipe,
            options.pairs,
            options.out,
            base=options.base,
            cache=options.cache,
            report_to=options.report_to,
            report=log,
            progress=report,
        )
    except TrainingStoppedError as stopped:
        raise KeyboardInterrupt(str(stopped)) from stopped
    summary(manifest, options.out)


def _mine(options: argparse.Namespace) -> None:
    from modernpubmed.pairs import mine

    manifest = mine(
        options.pairs,
        Encoder.load(options.model),
        options.out,
        negatives=options.negatives,
        depth=options.depth,
        margin=options.margin,
        mesh_overlap=options.mesh_overlap,
        progress=report,
    )
    summary(manifest, options.out)


def _plot(options: argparse.Namespace) -> None:
    from modernpubmed.training.plot import plot

    for path in plot(options.run, options.out):
        say(str(path))


def _export(options: argparse.Namespace) -> None:
    with needs_extra("train", "exporting"):
        from modernpubmed.encoder.export import export
        from modernpubmed.encoder.int8 import CALIBRATION_TEXTS, export_int8
    if options.calibrate is not None and not options.int8:
        raise ModernPubMedError("--calibrate is for --int8", remedy="give both")
    texts = None
    if options.calibrate is not None:
        records = _evenly(_texts(options.calibrate), CALIBRATION_TEXTS)
        texts = [text for record in records for text in record]
    say(str(export(options.model, half=options.fp16)))
    if options.int8:
        say(str(export_int8(options.model, texts)))


def _texts(path: Path) -> Iterator[tuple[str, ...]]:
    """The lines of a file of texts, or the two sides of each pair."""
    from modernpubmed.pairs.store import read_pairs

    if path.suffix == ".parquet" or ".jsonl" in path.suffixes:
        for pair in read_pairs(path):
            yield pair.anchor, pair.positive
    else:
        yield from ((line,) for _, text in text_lines(path) if (line := text.strip()))


def _evenly(records: Iterable[Record], count: int) -> list[Record]:
    """``count`` to twice as many of the records, evenly, in memory that does not grow."""
    kept: list[Record] = []
    step = 1
    for number, record in enumerate(records):
        if number % step == 0:
            kept.append(record)
        if len(kept) == 2 * count:
            kept, step = kept[::2], 2 * step
    return kept


def _average(options: argparse.Namespace) -> None:
    with needs_extra("train", "averaging"):
        from modernpubmed.training.average import average
    summary(average(options.models, options.out, weights=options.weights), options.out)


def _training_lines(record: dict[str, Any], seconds: float) -> list[str]:
    if "epochs" in record:
        return [
            f"{name}: {counts['pairs']:,} pairs, {record['epochs'][name]:.2f} epochs in "
            f"{record['steps']:,} steps, {counts['positives_cut']:,} positives cut"
            for name, counts in record["pairs"].items()
        ]
    parts = [f"step {record['step']:,}/{record['steps']:,}"]
    for key, label, form in (
        ("loss", "loss", ".4f"),
        ("learning_rate", "lr", ".2g"),
        ("grad_norm", "gradient", ".2f"),
        ("accuracy", "accuracy", ".3f"),
        ("masked", "masked", ",d"),
        ("padding", "padding", ".1%"),
        ("tokens_per_second", "tokens/s", ",.0f"),
        ("dev_ndcg@10", "dev nDCG@10", ".4f"),
        ("dev_accuracy@1", "dev Accuracy@1", ".4f"),
    ):
        if key in record:
            parts.append(f"{label} {record[key]:{form}}")
    return ["  ".join([*parts, f"{seconds:,.0f} s"])]

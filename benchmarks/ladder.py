"""The ladder: what smaller vectors and smaller models cost in quality, and what they save.

Prints one Markdown table. Every rung is measured on the same suites; short vectors, 8 bits and
signs are made of the full model's vectors, so the suites are encoded once for each model.

    python benchmarks/ladder.py --suite medquad_focus --suite dev.parquet --vectors kept \
        [--static FOLDER] [--nano FOLDER] [--json ladder.json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoding import of_hpo, of_pairs, texts_of
from modernpubmed import Encoder
from modernpubmed.encoder import TruncationWarning
from modernpubmed.encoder.encoder import SHIPPED_MODEL
from modernpubmed.encoder.folder import INT8_NAME
from modernpubmed.encoder.precision import quantize, search_binary, shorten
from modernpubmed.evaluation.evaluate import encode_suite
from modernpubmed.evaluation.metrics import score
from modernpubmed.evaluation.ranking import Run, rank
from modernpubmed.suites import Suite, read_suite

METRIC = "nDCG@10"
DEPTH = 10
ROUNDS = 5
INT8 = "full, int8 graph"

Vectors = NDArray[np.float32]
Search = Callable[[Vectors, Vectors, Suite], Run]


@dataclass(frozen=True, slots=True)
class Rung:
    """A row of the table.

    Attributes:
        name: What it is.
        bytes_a_vector: Stored.
        megabytes: Of the files that it needs.
        speed: Texts a second over the full model's in fp32: median, lowest, highest round.
        quality: Mean nDCG@10 by suite.
    """

    name: str
    bytes_a_vector: int
    megabytes: float
    speed: tuple[float, float, float]
    quality: dict[str, float]


def main() -> None:
    """Measures every rung."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suite", type=Path, action="append", required=True, dest="suites")
    parser.add_argument("--vectors", type=Path, help="folder that keeps vectors")
    parser.add_argument("--model", type=Path, default=SHIPPED_MODEL)
    parser.add_argument("--static", type=Path, help="a static model")
    parser.add_argument("--nano", type=Path, help="the smallest transformer")
    parser.add_argument("--pairs", type=Path, help="texts for speed; default: of the HPO")
    parser.add_argument("--json", type=Path, help="where to keep the figures as well")
    options = parser.parse_args()
    warnings.simplefilter("ignore", TruncationWarning)
    suites = [read_suite(path) for path in options.suites]
    full = Encoder.load(options.model, precision="float32")
    texts = texts_of(full, of_hpo() if options.pairs is None else of_pairs(options.pairs))["mixed"]
    models = {"full, fp16 weights, fp32 arithmetic": full}
    if (options.model / INT8_NAME).is_file():
        models[INT8] = Encoder.load(options.model, precision="int8")
    for name, folder in (("nano", options.nano), ("static", options.static)):
        if folder is not None:
            models[name] = Encoder.load(folder)
    rungs = []
    for name, encoder in models.items():
        speed = against(encoder, full, texts)
        kept = {suite.name: encoded(encoder, suite, options.vectors) for suite in suites}
        steps = [(name, 4 * encoder.dimension, nearest(None))]
        if name != INT8:
            steps += [
                (f"{name}, first {dim} numbers", 4 * dim, nearest(dim))
                for dim in (256, 128, 64)
                if dim < encoder.dimension
            ]
        if encoder is full:
            steps += [
                (f"{name}, int8 vectors", encoder.dimension, by_int8),
                (f"{name}, binary vectors, rescored by signs", encoder.dimension // 8, by_signs),
                (
                    f"{name}, binary vectors, rescored by int8 (on disk)",
                    encoder.dimension // 8,
                    by_signs_and_int8,
                ),
            ]
        files = megabytes(encoder, int8=name == INT8)
        for what, size, search in steps:
            quality = {}
            for suite in suites:
                run = search(*kept[suite.name], suite)
                quality[suite.name] = float(score(run, suite, (METRIC,))[METRIC].mean())
            rungs.append(Rung(what, size, files, speed, quality))
            say(what)
    table(rungs, suites)
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(rung) for rung in rungs], indent=2) + "\n")


def nearest(dim: int | None) -> Search:
    """By cosine of the first numbers."""

    def search(queries: Vectors, documents: Vectors, suite: Suite) -> Run:
        return rank(shorten(queries, dim), shorten(documents, dim), suite.corpus_ids, DEPTH)

    return search


def by_int8(queries: Vectors, documents: Vectors, suite: Suite) -> Run:
    """Documents in 8 bits, queries in full."""
    return rank(queries, quantize(documents, "int8").astype(np.float32), suite.corpus_ids, DEPTH)


def by_signs(queries: Vectors, documents: Vectors, suite: Suite) -> Run:  # noqa: ARG001
    """Documents as signs, alone."""
    return Run(*search_binary(queries, quantize(documents, "binary"), DEPTH))


def by_signs_and_int8(queries: Vectors, documents: Vectors, suite: Suite) -> Run:  # noqa: ARG001
    """Found by signs, scored again by 8 bits."""
    signs, numbers = quantize(documents, "binary"), quantize(documents, "int8")
    return Run(*search_binary(queries, signs, DEPTH, rescored_by=numbers))


def encoded(encoder: Encoder, suite: Suite, folder: Path | None) -> tuple[Vectors, Vectors]:
    """Vectors of queries and documents, kept in the folder that ``compare --vectors`` uses too."""
    queries = encode_suite(encoder, "query", suite, folder)
    return queries.vectors, encode_suite(encoder, "document", suite, folder).vectors


def against(ours: Encoder, full: Encoder, texts: list[str]) -> tuple[float, float, float]:
    """How many times as fast as the full model, in turns."""
    if ours is full:
        return 1.0, 1.0, 1.0
    ratios = []
    for _ in range(ROUNDS):
        took = []
        for encoder in (ours, full):
            start = time.perf_counter()
            encoder.encode(texts)
            took.append(time.perf_counter() - start)
        ratios.append(took[1] / took[0])
    return statistics.median(ratios), min(ratios), max(ratios)


def megabytes(encoder: Encoder, *, int8: bool) -> float:
    """Of the files in the model's folder, without the int8 graph where that does not run."""
    assert encoder.folder is not None
    files = [file for file in encoder.folder.rglob("*") if file.is_file()]
    return sum(f.stat().st_size for f in files if int8 or f.name != INT8_NAME) / 1e6


def table(rungs: Sequence[Rung], suites: Sequence[Suite]) -> None:
    """Prints it as Markdown."""
    names = [suite.name for suite in suites]
    print(f"| rung | bytes a vector | folder, MB | speed | {' | '.join(names)} | mean |")
    print("|---|--:|--:|--:|" + "--:|" * (len(names) + 1))
    for rung in rungs:
        scores = [rung.quality[name] for name in names]
        low, high = rung.speed[1:]
        cells = [
            rung.name,
            f"{rung.bytes_a_vector:,}",
            f"{rung.megabytes:.1f}",
            f"{rung.speed[0]:.1f} ({low:.1f}–{high:.1f})",
            *(f"{value:.4f}" for value in (*scores, statistics.mean(scores))),
        ]
        print(f"| {' | '.join(cells)} |")


def say(what: str) -> None:
    """Progress, apart from the table."""
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

"""Our encoder against sentence-transformers and fastembed: speed, cold start, memory, CPU peak.

All encode the same real texts with the same folder on the same cores: sentence-transformers as it
comes (torch, fp32, its own sorting by length), fastembed, where it is installed, on the same int8
graph. Without ``--pairs`` the texts are names and definitions of the Human Phenotype Ontology; with
it, both sides of title–abstract pairs.

    python benchmarks/encoding.py --pairs pairs/dev.parquet
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sentence_transformers import SentenceTransformer

from _side_by_side import machine, side_by_side
from modernpubmed import Encoder
from modernpubmed.concepts import hpo
from modernpubmed.encoder import TruncationWarning
from modernpubmed.encoder.encoder import SHIPPED_MODEL
from modernpubmed.pairs.store import read_pairs
from modernpubmed.threads import usable_threads

#: Tokens of the texts of one length, special ones counted, and how many texts are made.
LENGTHS = {16: 256, 128: 48, 256: 24}
MIXED = 80

Encode = Callable[[list[str]], NDArray[np.float32]]

COLD = "import modernpubmed; modernpubmed.Encoder.load({model!r}).encode(['fever'])"
COLD_THEIRS = (
    "from sentence_transformers import SentenceTransformer; "
    "SentenceTransformer({model!r}, device='cpu').encode(['fever'])"
)
IMPORT = "import time; t = time.perf_counter(); import modernpubmed; print(time.perf_counter() - t)"
MEMORY = """
import json, re, sys, modernpubmed
texts = json.load(open(sys.argv[2]))
encoder = modernpubmed.Encoder.load(sys.argv[1])
encoder.encode(texts)
# Not getrusage: its peak is inherited from the process that started this one.
print(int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024)
"""


def main() -> None:
    """Prints one JSON line a measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=Path, help="title–abstract pairs, what 'pairs' wrote")
    parser.add_argument("--model", type=Path, default=SHIPPED_MODEL, help="default the shipped one")
    parser.add_argument("--rounds", type=int, default=5, help="default %(default)s")
    options = parser.parse_args()
    model = str(options.model)
    warnings.simplefilter("ignore", TruncationWarning)  # both cut the same texts
    encoder = Encoder.load(model)
    theirs = SentenceTransformer(model, device="cpu")
    sets = texts_of(encoder, of_hpo() if options.pairs is None else of_pairs(options.pairs))
    rivals: dict[str, Encode] = {
        "SentenceTransformer (torch fp32)": lambda texts: np.asarray(
            theirs.encode(texts, normalize_embeddings=True)
        ),
        "Encoder in fp32": Encoder.load(model, precision="float32").encode,
    }
    if (fastembed := by_fastembed(options.model, encoder.max_tokens)) is not None:
        rivals["fastembed on the same graph"] = fastembed
    agreement(encoder, theirs, sets["mixed"])
    peak(encoder, options.model, sets["128 tokens"])
    side_by_side(
        "first vector in a new process: Encoder against SentenceTransformer",
        lambda: python(COLD.format(model=model)),
        lambda: python(COLD_THEIRS.format(model=model)),
        rounds=3,
    )
    seconds = [timed(lambda: python(COLD.format(model=model))) for _ in range(options.rounds)]
    value("first vector in a new process", seconds, "s", target=1)
    imports = [1000 * float(python(IMPORT)) for _ in range(options.rounds)]
    value("import modernpubmed", imports, "ms", target=150)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "texts.json")
        file.write_text(json.dumps(sets["mixed"]))
        value("peak resident memory", [float(python(MEMORY, model, str(file)))], "MiB", target=300)
    for what, texts in sets.items():
        for rival, encode in rivals.items():
            side_by_side(
                f"encode {len(texts)} texts, {what}: Encoder against {rival}",
                lambda texts=texts: encoder.encode(texts),  # type: ignore[misc]
                lambda texts=texts, encode=encode: encode(texts),  # type: ignore[misc]
                rounds=options.rounds,
                target={"S": 2.5, "f": 1.0}.get(rival[0]) if what == "mixed" else None,
            )


def of_hpo() -> list[tuple[str, str]]:
    """Names and definitions; several definitions in a row stand for an abstract."""
    concepts = [concept for concept in hpo().concepts if concept.definition]
    names = [concept.name for concept in concepts[::17]]
    definitions = [concept.definition or "" for concept in concepts]
    lengths = random.Random(0)  # noqa: S311
    longer = [
        " ".join(definitions[17 * row : 17 * row + lengths.randint(1, 12)])
        for row in range(len(names))
    ]
    return list(zip(names, longer, strict=True))


def of_pairs(path: Path) -> list[tuple[str, str]]:
    """Titles and abstracts."""
    return [(pair.anchor, pair.positive) for pair in read_pairs(path)]


def texts_of(encoder: Encoder, pairs: list[tuple[str, str]]) -> dict[str, list[str]]:
    """Texts of exactly 16, 128 and 256 tokens, cut from the longer ones; and a mix as it comes."""
    chosen = random.Random(0).sample(pairs, min(len(pairs), 400))  # noqa: S311
    sets = {}
    tokenizer = encoder._model.tokenizer
    for length, count in LENGTHS.items():
        cut = []
        for _, text in chosen:
            tokens = tokenizer.encode(text)
            # A text of one length for each stretch of its tokens that starts and ends with a word.
            for start in range(1, len(tokens) - length + 1, length - 2):
                first, last = tokens.offsets[start][0], tokens.offsets[start + length - 3][1]
                piece = text[first:last]
                if len(tokenizer.encode(piece)) == length:
                    cut.append(piece)
        sets[f"{length} tokens"] = cut[:count]
    return {"mixed": [text for pair in chosen[: MIXED // 2] for text in pair], **sets}


def by_fastembed(
    folder: Path, max_tokens: int
) -> Callable[[list[str]], NDArray[np.float32]] | None:
    """What fastembed makes of our own int8 graph, if it is installed."""
    try:
        from fastembed import TextEmbedding
        from fastembed.common.model_description import ModelSource, PoolingType
    except ImportError:
        print("NOT MEASURED: fastembed (pip install fastembed)", file=sys.stderr)
        return None
    TextEmbedding.add_custom_model(
        model="modernpubmed",
        pooling=PoolingType.MEAN,
        normalization=True,
        sources=ModelSource(hf="modernpubmed/modernpubmed"),
        dim=384,
        model_file="model_int8.onnx",
    )
    model = TextEmbedding("modernpubmed", specific_model_path=str(folder), threads=usable_threads())
    # It would take a leftover of the base's in tokenizer_config.json: 128.
    model.model.tokenizer.enable_truncation(max_tokens)
    return lambda texts: np.stack(list(model.embed(texts)))


def agreement(ours: Encoder, theirs: SentenceTransformer, texts: list[str]) -> None:
    """Cosines between our vectors and those of torch in fp32."""
    vectors = ours.encode(texts)
    cosines = (vectors * np.asarray(theirs.encode(texts, normalize_embeddings=True))).sum(axis=1)
    assert cosines.min() > 0.98, cosines.min()
    value("cosine to torch fp32", cosines.tolist(), "")


def peak(encoder: Encoder, folder: Path, texts: list[str]) -> None:
    """How much of the int8 operations a second of one large product the encoder reaches."""
    config = json.loads((folder / "config.json").read_text())
    d, wide = config["hidden_size"], config["intermediate_size"]
    s = len(encoder._model.tokenizer.encode(texts[0]))
    # A token's products with weights, and with the tokens that it attends to.
    operations = 2 * config["num_hidden_layers"] * (4 * d * d + 2 * d * wide + 2 * s * d)
    best = best_product()
    rates = []
    for _ in range(5):
        seconds = timed(lambda: encoder.encode(texts))
        rates.append(100 * len(texts) * s * operations / seconds / best)
    value(f"share of the int8 peak ({best / 1e9:,.0f} GOP/s)", rates, "%")


def best_product() -> float:
    """Operations a second of one large product of uint8 and int8 in onnxruntime."""
    m, k, n = 2048, 1536, 1536
    generator = np.random.default_rng(0)
    constants = {
        "weight": generator.integers(-127, 127, (k, n)).astype(np.int8),
        "steps": np.full(n, 0.01, np.float32),
        "step": np.float32(0.01),
        "zero": np.uint8(128),
    }
    node = helper.make_node(
        "MatMulIntegerToFloat",
        ["x", "weight", "step", "steps", "zero"],
        ["y"],
        domain="com.microsoft",
    )
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [m, k])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [m, n])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_threads()
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    x = generator.integers(0, 255, (m, k)).astype(np.uint8)
    seconds = min(timed(lambda: session.run(None, {"x": x})) for _ in range(20))
    return 2 * m * k * n / seconds


def value(name: str, values: Sequence[float], unit: str, *, target: float | None = None) -> None:
    """Prints one JSON line of a measurement that has no rival."""
    line = {
        "name": name,
        "value": round(statistics.median(values), 4),
        "low": round(min(values), 4),
        "high": round(max(values), 4),
        "unit": unit,
        "target": target,
        "machine": machine(),
    }
    print(json.dumps(line), flush=True)


def python(code: str, *arguments: str) -> str:
    """What a new Python prints."""
    command = [sys.executable, "-c", code, *arguments]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)  # noqa: S603
    return done.stdout


def timed(way: Callable[[], object]) -> float:
    """Seconds."""
    start = time.perf_counter()
    way()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

"""Probes: a few texts with the vectors they had at export, to ask a graph on this processor again.

A graph can be whole and still give other vectors than it should: on a processor whose int8
products saturate, after a runtime's regression, beside another tokenizer. Nothing fails then, and
every search is a little wrong. So export stores what the model itself gave in fp32, and loading
compares. What is compared is the plain mean of a text's token vectors, whatever the folder's
pooling is: it is the graph that is asked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modernpubmed.encoder.folder import read_json
from modernpubmed.encoder.pooling import normalize
from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import replacing

PROBES_NAME = "probes.json"

#: The least cosine between a graph's vector and the stored one. An fp32 graph differs by the order
#: of its sums. For int8: at a mean cosine of 0.993 no ranking lost more than 0.3 % of its nDCG@10
#: (see the lab notes), and a model's own int8 graph is at 0.998.
LEAST_COSINE = {"float32": 0.9999, "int8": 0.99}

#: Short and long, with what clinical texts are full of: numbers, units, names, abbreviations.
PROBE_TEXTS = (
    "fever",
    "HbA1c 9.2 % despite metformin 2 g/day; no retinopathy.",
    "Efficacy of low-dose aspirin for the prevention of preeclampsia: a randomised trial.",
    "We enrolled 412 adults with severe asthma (mean age 47 years) at nine centres. Exacerbations "
    "fell by 38 % (95 % CI 21 to 52; p < 0.001) in the treated group.",
)

#: Token vectors ``[s, d]`` of a text.
TokenVectors = Callable[[str], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Probes:
    """What ``probes.json`` holds.

    Attributes:
        texts: n texts.
        max_tokens: Where they were cut.
        vectors: float32 ``[n, d]``, rows of length 1: the means of their token vectors.
    """

    texts: tuple[str, ...]
    max_tokens: int
    vectors: NDArray[np.float32]


def write_probes(folder: Path, tokens: TokenVectors, *, max_tokens: int) -> Path:
    """Stores what a model that cuts at ``max_tokens`` gives; returns the file's path."""
    target = folder / PROBES_NAME
    values = {
        "texts": PROBE_TEXTS,
        "max_tokens": max_tokens,
        "vectors": [[round(float(x), 6) for x in row] for row in _means(tokens, PROBE_TEXTS)],
    }
    with replacing(target) as temporary:
        temporary.write_text(json.dumps(values, ensure_ascii=False) + "\n", encoding="utf-8")
    return target


def read_probes(folder: Path) -> Probes | None:
    """The probes of a folder, None if it has none.

    Raises:
        ModernPubMedError: The file cannot be read.
    """
    path = folder / PROBES_NAME
    if not path.is_file():
        return None
    values = read_json(path, kind=dict)
    try:
        texts = tuple(str(text) for text in values["texts"])
        vectors = np.array(values["vectors"], dtype=np.float32)
        max_tokens = int(values["max_tokens"])
        if not texts or vectors.ndim != 2 or len(vectors) != len(texts):
            raise ValueError("texts and vectors do not pair")
    except (KeyError, TypeError, ValueError) as error:
        raise ModernPubMedError(
            f"holds no probes ({error})", file=path, remedy=f"modernpubmed export {folder}"
        ) from error
    return Probes(texts, max_tokens, vectors)


class DriftError(ModernPubMedError):
    """A graph gives other vectors on this processor than it should."""


def check_probes(probes: Probes, tokens: TokenVectors, *, graph: Path, precision: str) -> None:
    """Refuses a graph that does not give the stored vectors.

    Args:
        probes: Texts and vectors.
        tokens: What the graph gives.
        graph: Its file, for the error.
        precision: ``float32`` or ``int8``: how close it must come.

    Raises:
        DriftError: A cosine is below ``LEAST_COSINE``, or not a number.
        ModernPubMedError: The vectors have another length.
    """
    means = _means(tokens, probes.texts)
    if means.shape != probes.vectors.shape:
        raise ModernPubMedError(
            f"gives vectors of {means.shape[1]} numbers, where {PROBES_NAME} has "
            f"{probes.vectors.shape[1]}",
            file=graph,
            remedy="copy the model folder again, whole",
        )
    cosines = (means * probes.vectors).sum(axis=1)
    worst = int(np.argmin(np.nan_to_num(cosines, nan=-2)))
    least = LEAST_COSINE[precision]
    if not cosines[worst] >= least:
        other = " or precision='float32'" if precision == "int8" else ""
        raise DriftError(
            f"gives other vectors on this processor than when it was exported: cosine "
            f"{cosines[worst]:.4f}, where {least} is the least",
            file=graph,
            record=f"probe {worst}",
            remedy=f"modernpubmed export {graph.parent} on this machine{other}",
        )


def _means(tokens: TokenVectors, texts: Sequence[str]) -> NDArray[np.float32]:
    return normalize(np.stack([tokens(text).mean(axis=0) for text in texts]))

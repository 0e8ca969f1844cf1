"""Recipes: one TOML file a model, every number that decides how it is trained.

A recipe is read strictly: an unknown key, a missing one or a value of the wrong type is an error
that names the file and the key. A silently ignored ``learnin_rate`` costs a day of GPU time.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from modernpubmed.errors import ModernPubMedError
from modernpubmed.related import MESH_OVERLAP

Precision = Literal["auto", "fp32", "bf16"]
Schedule = Literal["linear", "cosine", "constant"]
#: What the near twins of anchors, sentences with one thing changed, are in a batch.
Contrast = Literal["none", "queries", "documents"]
#: What the pairs of a batch have in common.
Batches = Literal["length", "subject"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Source:
    """One kind of pairs to train on; a batch holds pairs of one source.

    Attributes:
        name: Of the source, and of its folder under ``--pairs`` where there are several.
        positive_tokens: What positives are cut to in training, special tokens counted.
        anchor_tokens: What anchors are cut to.
        batch_size: Pairs a step, over all devices; or
        batch_tokens: as many pairs a step as have about this many tokens of documents. One of the
            two.
        weight: Share of the steps, relative to the other sources'.
        negatives: Mined hard negatives a pair (``modernpubmed mine``), 0 for none.
        contrast: What near-identical anchors with another meaning are
            (``modernpubmed.training.contrast``). ``queries``: documents must tell their own anchor
            from them; needs ``loss.symmetric``. ``documents``: hard negatives; an anchor must be
            nearer to its positive than to its own near twin, which only pairs that are themselves
            alike can be asked for (``paraphrase``).
        batches: What the pairs of a batch have in common: ``length``, so that little is padded,
            or the ``subject`` of their documents (``modernpubmed.training.subjects``), so that
            they are hard to tell apart; needs ``batch_size``.
    """

    name: str
    positive_tokens: int
    anchor_tokens: int = 64
    batch_size: int = 0
    batch_tokens: int = 0
    weight: float = 1.0
    negatives: int = 0
    contrast: Contrast = "none"
    batches: Batches = "length"


@dataclass(frozen=True, slots=True)
class Loss:
    """InfoNCE's choices (see ``modernpubmed.training.infonce``).

    Attributes:
        temperature: What cosine similarities are divided by.
        symmetric: Whether documents must find their queries too.
        matryoshka: Lengths to which vectors are cut besides their full one, so that these work
            too.
        distillation: Weight of the divergence from the teacher's similarities, 0 for none.
        teacher: A folder or hub name of a model with the base's tokenizer; empty is the base, as
            it was.
    """

    temperature: float
    symmetric: bool = False
    matryoshka: tuple[int, ...] = ()
    distillation: float = 0.0
    teacher: str = ""


@dataclass(frozen=True, slots=True)
class Masks:
    """Which documents of a batch are not negatives.

    Never are the article itself, its near-duplicates, what NLM links to it, and the names of the
    same concept; these are choices.

    Attributes:
        mesh_overlap: Articles whose MeSH headings have at least this Jaccard similarity, check
            tags left out; above 1 for none.
        guide: A folder or hub name of a model with the base's tokenizer; what it finds nearer to
            the anchor than the positive, less ``guide_margin``, is no negative. Empty for none.
        guide_margin: In cosine; with 0.1, what comes within 0.1 of the positive is none either.
    """

    mesh_overlap: float = MESH_OVERLAP
    guide: str = ""
    guide_margin: float = 0.0


@dataclass(frozen=True, slots=True)
class Optimizer:
    """AdamW with decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101).

    Attributes:
        learning_rate: The peak, reached after ``warmup_steps``.
        weight_decay: Applied to all weights but biases and layer norms.
        warmup_steps: Steps of linear warm-up from zero.
        schedule: The fall after it, to zero at the last step (``constant``: none).
    """

    learning_rate: float
    weight_decay: float
    warmup_steps: int
    schedule: Schedule


@dataclass(frozen=True, slots=True)
class Run:
    """How long and how often.

    Attributes:
        steps: Optimiser steps.
        seed: Of the data order, dropout and any new weights.
        precision: ``bf16`` and ``fp32`` as they say; ``auto`` is bf16 on a GPU that has it.
        checkpoint_every: Steps between checkpoints.
        evaluate_every: Steps between evaluations on the dev split.
        dev_pairs: How many dev pairs of the first source those use, queries and corpus alike; 0
            for none.
        memory_tokens: How many tokens' activations may be held at a time, on each device. A batch
            with more is computed with cached gradients: the same result in bounded memory, for
            about a third more time.
        keep_checkpoints: How many of the last checkpoints stay in ``OUT.run/checkpoints`` when
            training is complete, for ``modernpubmed average``.
    """

    steps: int
    seed: int
    precision: Precision
    checkpoint_every: int
    evaluate_every: int
    dev_pairs: int
    memory_tokens: int = 32_768
    keep_checkpoints: int = 0


@dataclass(frozen=True, slots=True)
class Recipe:
    """A whole recipe; the TOML file has one table for each of the attributes that are not text.

    Attributes:
        name: The model's name.
        license: The model's licence, as the hub writes it (``apache-2.0``).
        base: A hub name or a local folder, of a sentence-transformers or a bare encoder model.
        max_tokens: What the finished model is configured to read.
        sources: What it learns from; ``[[sources]]`` in the file.
        loss: InfoNCE.
        optimizer: AdamW.
        run: Steps.
        masks: False negatives.
    """

    name: str
    license: str
    base: str
    max_tokens: int
    sources: tuple[Source, ...]
    loss: Loss
    optimizer: Optimizer
    run: Run
    masks: Masks = Masks()

    def as_dict(self) -> dict[str, Any]:
        """The recipe as nested dictionaries, for the manifest."""
        return asdict(self)


def read_recipe(path: Path) -> Recipe:
    """Reads a recipe.

    Raises:
        ModernPubMedError: The file is missing or not TOML; a key is unknown, missing, of the
            wrong type or out of range.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ModernPubMedError(
            f"not a readable TOML file ({error})",
            file=path,
            remedy="start from a copy of recipes/mini.toml",
        ) from error
    recipe = _build(Recipe, values, path, prefix="")
    _check_ranges(recipe, path)
    return recipe


def _build(cls: type[T], values: Mapping[str, Any], path: Path, prefix: str) -> T:
    hints = get_type_hints(cls)
    known = [field.name for field in fields(cls)]  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise ModernPubMedError(
                "unknown key",
                file=path,
                record=f"{prefix}{key}",
                remedy=f"the keys here are {', '.join(known)}",
            )
    built: dict[str, Any] = {}
    optional = {field.name for field in fields(cls) if field.default is not MISSING}  # type: ignore[arg-type]
    for key in known:
        if key not in values:
            if key in optional:
                continue
            raise ModernPubMedError(
                "missing key", file=path, record=f"{prefix}{key}", remedy="add it"
            )
        built[key] = _value(hints[key], values[key], path, f"{prefix}{key}")
    return cls(**built)


def _value(kind: Any, value: Any, path: Path, key: str) -> Any:
    if hasattr(kind, "__dataclass_fields__"):
        if not isinstance(value, dict):
            raise ModernPubMedError(
                "must be a table", file=path, record=key, remedy=f"write it as [{key}]"
            )
        return _build(kind, value, path, prefix=f"{key}.")
    if get_origin(kind) is tuple:
        inner = get_args(kind)[0]
        if not isinstance(value, list):
            written = f"[[{key}]]" if hasattr(inner, "__dataclass_fields__") else f"{key} = […]"
            raise ModernPubMedError(
                "must be a list", file=path, record=key, remedy=f"write it as {written}"
            )
        return tuple(
            _value(inner, item, path, f"{key}[{place}]") for place, item in enumerate(value)
        )
    if choices := get_args(kind):
        if value not in choices:
            raise ModernPubMedError(
                f"{value!r} is none of {', '.join(choices)}",
                file=path,
                record=key,
                remedy="choose one of these",
            )
        return value
    # bool is a subclass of int, and TOML tells 1 from 1.0 and true: only 1 for 1.0 is accepted.
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ModernPubMedError(
            f"must be of type {kind.__name__}, is {type(value).__name__} ({value!r})",
            file=path,
            record=key,
            remedy="correct it",
        )
    return value


def _check_ranges(recipe: Recipe, path: Path) -> None:
    def refuse(key: str, cause: str, remedy: str = "correct it") -> None:
        raise ModernPubMedError(cause, file=path, record=key, remedy=remedy)

    at_least: dict[str, tuple[float, float]] = {
        "max_tokens": (recipe.max_tokens, 8),
        "loss.distillation": (recipe.loss.distillation, 0),
        "optimizer.weight_decay": (recipe.optimizer.weight_decay, 0),
        "optimizer.warmup_steps": (recipe.optimizer.warmup_steps, 0),
        "run.steps": (recipe.run.steps, 1),
        "run.seed": (recipe.run.seed, 0),
        "run.checkpoint_every": (recipe.run.checkpoint_every, 1),
        "run.evaluate_every": (recipe.run.evaluate_every, 1),
        "run.dev_pairs": (recipe.run.dev_pairs, 0),
        "run.memory_tokens": (recipe.run.memory_tokens, 64),
        "run.keep_checkpoints": (recipe.run.keep_checkpoints, 0),
    }
    above_zero: dict[str, float] = {
        "loss.temperature": recipe.loss.temperature,
        "optimizer.learning_rate": recipe.optimizer.learning_rate,
        "masks.mesh_overlap": recipe.masks.mesh_overlap,
    }
    for place, cut in enumerate(recipe.loss.matryoshka):
        at_least[f"loss.matryoshka[{place}]"] = (cut, 2)
    for place, source in enumerate(recipe.sources):
        key = f"sources[{place}]"
        at_least[f"{key}.anchor_tokens"] = (source.anchor_tokens, 8)
        at_least[f"{key}.positive_tokens"] = (source.positive_tokens, 8)
        at_least[f"{key}.negatives"] = (source.negatives, 0)
        above_zero[f"{key}.weight"] = source.weight
        if bool(source.batch_size) == bool(source.batch_tokens):
            refuse(key, "needs either batch_size or batch_tokens", "give one of the two")
        if source.contrast == "queries" and not recipe.loss.symmetric:
            refuse(f"{key}.contrast", "needs loss.symmetric = true", "set it, or leave this out")
        if source.batches == "subject" and not source.batch_size:
            refuse(f"{key}.batches", "by subject need batch_size", "give it for batch_tokens")
        if source.batch_size:
            at_least[f"{key}.batch_size"] = (source.batch_size, 2)
        else:
            at_least[f"{key}.batch_tokens"] = (source.batch_tokens, 64)
    names = [source.name for source in recipe.sources]
    if not names or len(set(names)) < len(names):
        refuse("sources", "there must be one or more, of different names", "write [[sources]]")
    for key, (value, least) in at_least.items():
        if not value >= least:
            refuse(key, f"is {value:g}, must be at least {least:g}")
    for key, value in above_zero.items():
        if not 0 < value < float("inf"):
            refuse(key, f"is {value:g}, must be a number above 0")

"""Recipes: one TOML file a model, every number that decides how it is trained.

A recipe is read strictly: an unknown key, a missing one or a value of the wrong type is an error
that names the file and the key. A silently ignored ``learnin_rate`` costs a day of GPU time.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_type_hints

from modernpubmed.errors import ModernPubMedError

Precision = Literal["auto", "fp32", "bf16"]
Schedule = Literal["linear", "cosine", "constant"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Tokens:
    """Maximum lengths in tokens, special tokens counted.

    Attributes:
        train: What a text is cut to in training; shorter is faster.
        serve: What the finished model is configured to read.
    """

    train: int
    serve: int


@dataclass(frozen=True, slots=True)
class Loss:
    """InfoNCE's two choices (see ``modernpubmed.training.infonce``).

    Attributes:
        temperature: What cosine similarities are divided by.
        symmetric: Whether documents must find their queries too.
    """

    temperature: float
    symmetric: bool


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
        batch_size: Pairs a step; each has ``batch_size - 1`` in-batch negatives.
        steps: Optimiser steps.
        seed: Of the data order, dropout and any new weights.
        precision: ``bf16`` and ``fp32`` as they say; ``auto`` is bf16 on a GPU that has it.
        checkpoint_every: Steps between checkpoints.
        evaluate_every: Steps between evaluations on the dev split.
        dev_pairs: How many dev pairs those use, queries and corpus alike; 0 for none.
    """

    batch_size: int
    steps: int
    seed: int
    precision: Precision
    checkpoint_every: int
    evaluate_every: int
    dev_pairs: int


@dataclass(frozen=True, slots=True)
class Recipe:
    """A whole recipe; the TOML file has ``name``, ``base`` and one table for each of the rest.

    Attributes:
        name: The model's name.
        license: The model's licence, as the hub writes it (``apache-2.0``).
        base: A hub name or a local folder, of a sentence-transformers or a bare encoder model.
        tokens: Lengths.
        loss: InfoNCE.
        optimizer: AdamW.
        run: Steps and batches.
    """

    name: str
    license: str
    base: str
    tokens: Tokens
    loss: Loss
    optimizer: Optimizer
    run: Run

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
    for key in known:
        if key not in values:
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
    at_least: dict[str, tuple[float, float]] = {
        "tokens.train": (recipe.tokens.train, 8),
        "tokens.serve": (recipe.tokens.serve, 8),
        "optimizer.weight_decay": (recipe.optimizer.weight_decay, 0),
        "optimizer.warmup_steps": (recipe.optimizer.warmup_steps, 0),
        "run.batch_size": (recipe.run.batch_size, 2),
        "run.steps": (recipe.run.steps, 1),
        "run.seed": (recipe.run.seed, 0),
        "run.checkpoint_every": (recipe.run.checkpoint_every, 1),
        "run.evaluate_every": (recipe.run.evaluate_every, 1),
        "run.dev_pairs": (recipe.run.dev_pairs, 0),
    }
    for key, (value, least) in at_least.items():
        if not value >= least:
            raise ModernPubMedError(
                f"is {value:g}, must be at least {least:g}",
                file=path,
                record=key,
                remedy="correct it",
            )
    above_zero: dict[str, float] = {
        "loss.temperature": recipe.loss.temperature,
        "optimizer.learning_rate": recipe.optimizer.learning_rate,
    }
    for key, value in above_zero.items():
        if not 0 < value < float("inf"):
            raise ModernPubMedError(
                f"is {value:g}, must be a number above 0",
                file=path,
                record=key,
                remedy="correct it",
            )

"""MTEB's medical tasks, run by ``mteb`` itself with our encoder as its model.

The figures are then those of MTEB's own code and data, and can stand beside those of its
leaderboard. The encoder is handed in through MTEB's ``EncoderProtocol``: queries get the model's
query prompt, documents its document prompt, and the texts of symmetric tasks (similarity,
clustering) none. A task's own instruction is not used: our models were not trained with any.

The default tasks are those of the benchmark ``MTEB(Medical, v1)`` in English; of tasks in several
languages the subsets that are English on both sides. Enevoldsen et al. 2025, MMTEB
(https://arxiv.org/abs/2502.13595). ``mteb`` brings torch and ``datasets`` with it.
"""

from __future__ import annotations

import difflib
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modernpubmed.encoder import TruncationWarning
from modernpubmed.errors import ModernPubMedError, needs_extra
from modernpubmed.manifest import Manifest, replacing
from modernpubmed.protocols import TextEncoder

#: The benchmark whose English tasks are run where none are named.
MEDICAL_BENCHMARK = "MTEB(Medical, v1)"

_LANGUAGE = "eng"


@dataclass(frozen=True, slots=True)
class MtebScore:
    """How a model did on one task of MTEB.

    Attributes:
        task: MTEB's name of it.
        kind: MTEB's type: ``Retrieval``, ``STS``, ``Clustering``, …
        metric: The task's main score, by MTEB's name (``ndcg_at_10``).
        score: Its value, the mean over the splits and subsets that were run.
        revision: Of the task's data set.
        mteb: The version of ``mteb``.
        truncated: How many texts were cut to the model's length, repeated ones counted again.
        seconds: Wall-clock time, loading of the data included.
        file: What else MTEB found, as JSON, where it was asked to be kept.
    """

    task: str
    kind: str
    metric: str
    score: float
    revision: str
    mteb: str
    truncated: int
    seconds: float
    file: str | None


def run_mteb(
    encoder: TextEncoder,
    tasks: Sequence[Any] | None = None,
    *,
    out: str | Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[MtebScore]:
    """The main scores of a model on tasks of MTEB, in their order.

    Args:
        encoder: The model.
        tasks: Names of tasks, or task objects of ``mteb``; None is ``medical_tasks()``.
        out: Folder that gets MTEB's own result of each task, ``TASK.json``, as soon as it is
            there, and at the end ``manifest.json``; None keeps nothing.
        progress: Called before each task with its name, how many are done, and of how many.

    Raises:
        MissingExtraError: ``mteb`` is not installed.
        ModernPubMedError: There is no such task, its data cannot be had, or the model gave vectors
            of another shape or not finite.
    """
    with needs_extra("mteb", "evaluate --mteb"):
        import mteb

    chosen = _tasks(medical_tasks() if tasks is None else tasks)
    model = _Model(encoder)
    scores: list[MtebScore] = []
    for number, task in enumerate(chosen):
        name = task.metadata.name
        if progress is not None:
            progress(name, number, len(chosen))
        start, before = time.perf_counter(), encoder.truncated
        try:
            with warnings.catch_warnings():
                # One warning a batch; the score carries the count.
                warnings.simplefilter("ignore", TruncationWarning)
                results = mteb.evaluate(
                    model,
                    task,
                    co2_tracker=False,
                    cache=None,
                    show_progress_bar=False,
                    encode_kwargs={"batch_size": 256, "show_progress_bar": False},
                )
        except OSError as error:
            raise ModernPubMedError(
                f"MTEB cannot get the data of this task ({type(error).__name__}: {error})",
                file=name,
                remedy="go online once: they stay in the cache of the library datasets",
            ) from error
        result = results.task_results[0]
        file = None
        if out is not None:
            file = Path(out) / f"{name}.json"
            with replacing(file) as temporary:
                result.to_disk(temporary)
        scores.append(
            MtebScore(
                task=name,
                kind=str(task.metadata.type),
                metric=str(task.metadata.main_score),
                score=float(result.get_score()),
                revision=str(task.metadata.revision),
                mteb=version("mteb"),
                truncated=encoder.truncated - before,
                seconds=time.perf_counter() - start,
                file=None if file is None else file.name,
            )
        )
    if out is not None:
        Manifest(
            kind="mteb results",
            inputs={"model": encoder.fingerprint},
            settings={
                "mteb": version("mteb"),
                "model": encoder.name,
                "prompts": dict(getattr(encoder, "prompts", {})),
                "scores": [asdict(score) for score in scores],
            },
            counts={"tasks": len(scores)},
        ).write(Path(out))
    return scores


def medical_tasks() -> list[str]:
    """The names of the English tasks of MTEB's medical benchmark.

    Raises:
        MissingExtraError: ``mteb`` is not installed.
    """
    with needs_extra("mteb", "evaluate --mteb"):
        import mteb

    benchmark = mteb.get_benchmark(MEDICAL_BENCHMARK)
    return [task.metadata.name for task in benchmark.tasks if _in_english(task.metadata)]


def render_mteb(scores: Iterable[MtebScore]) -> str:
    """The scores as lines of text: task, main score, its name, cut texts, seconds.

    >>> score = MtebScore("BIOSSES", "STS", "cosine_spearman", 0.8123, "d3fb", "2.26", 0, 1.5, None)
    >>> print(render_mteb([score]))
    task     score   metric           cut  seconds
    BIOSSES  0.8123  cosine_spearman    0        2
    """
    table = [("task", "score", "metric", "cut", "seconds")]
    table += [
        (s.task, f"{s.score:.4f}", s.metric, str(s.truncated), f"{s.seconds:.0f}") for s in scores
    ]
    widths = [max(len(row[column]) for row in table) for column in range(5)]
    left = (True, True, True, False, False)
    return "\n".join(
        "  ".join(
            cell.ljust(width) if first else cell.rjust(width)
            for cell, width, first in zip(row, widths, left, strict=True)
        )
        for row in table
    )


def _tasks(wanted: Sequence[Any]) -> list[Any]:
    import mteb

    if isinstance(wanted, str):
        wanted = [wanted]
    known: list[str] | None = None
    chosen = []
    for task in wanted:
        if not isinstance(task, str):
            chosen.append(task)
            continue
        known = known or sorted(kind.metadata.name for kind in mteb.get_tasks())
        if task not in known:
            close = ", ".join(difflib.get_close_matches(task, known, n=3))
            raise ModernPubMedError(
                f"MTEB has no task {task!r}{f'; it has {close}' if close else ''}",
                remedy=f"name a task of MTEB, or none for {', '.join(medical_tasks())}",
            )
        found = mteb.get_task(task)
        if _in_english(found.metadata):
            found.filter_languages([_LANGUAGE], exclusive_language_filter=True)
        chosen.append(found)
    if not chosen:
        raise ModernPubMedError("no task named", remedy="name one, or leave the list away")
    return chosen


def _in_english(metadata: Any) -> bool:
    """Whether a subset of the task is English on both sides."""
    given = metadata.eval_langs
    subsets = given.values() if isinstance(given, dict) else [given]
    return any(all(code.startswith(f"{_LANGUAGE}-") for code in codes) for codes in subsets)


class _Model:
    """The encoder as MTEB wants a model to be (``mteb.models.EncoderProtocol``)."""

    def __init__(self, encoder: TextEncoder) -> None:
        from mteb.models import ModelMeta

        self._encoder = encoder
        self.mteb_model_meta: Any = ModelMeta.create_empty(
            overwrites={
                # MTEB wants "owner/model".
                "name": encoder.name if "/" in encoder.name else f"modernpubmed/{encoder.name}",
                "revision": encoder.fingerprint,
                "embed_dim": encoder.dimension,
                "similarity_fn_name": "cosine",
                "modalities": ["text"],
            }
        )

    def encode(
        self,
        inputs: Iterable[dict[str, Any]],
        *,
        task_metadata: Any,
        prompt_type: Any = None,
        **_: Any,
    ) -> NDArray[np.float32]:
        encoder = self._encoder
        # MTEB's PromptType is a string; symmetric tasks have none.
        encode = {"query": encoder.encode_query, "document": encoder.encode_document}.get(
            str(prompt_type), encoder.encode
        )
        parts = [encode(list(batch["text"])) for batch in inputs]
        vectors = np.concatenate(parts) if parts else np.zeros((0, encoder.dimension))
        if vectors.shape[1:] != (encoder.dimension,) or not np.isfinite(vectors).all():
            raise ModernPubMedError(
                f"{encoder.name} gave vectors of shape {vectors.shape}, or not finite",
                file=task_metadata.name,
                remedy="the model is damaged: train or copy it again",
            )
        return vectors.astype(np.float32, copy=False)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        from mteb.similarity_functions import cos_sim

        return cos_sim(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        from mteb.similarity_functions import pairwise_cos_sim

        return pairwise_cos_sim(embeddings1, embeddings2)

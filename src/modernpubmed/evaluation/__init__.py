"""Evaluation: the published metrics, torch-free, with BM25 always beside the models."""

from modernpubmed.evaluation.card import write_card
from modernpubmed.evaluation.compare import (
    Comparison,
    compare,
    compare_results,
    render_markdown,
    render_text,
)
from modernpubmed.evaluation.evaluate import (
    Result,
    evaluate,
    evaluate_bm25,
    read_result,
    write_result,
)
from modernpubmed.evaluation.similarity import (
    correlate,
    read_similarity,
    similarity_examples,
    write_similarity,
)

__all__ = [
    "Comparison",
    "Result",
    "compare",
    "compare_results",
    "correlate",
    "evaluate",
    "evaluate_bm25",
    "read_result",
    "read_similarity",
    "render_markdown",
    "render_text",
    "similarity_examples",
    "write_card",
    "write_result",
    "write_similarity",
]

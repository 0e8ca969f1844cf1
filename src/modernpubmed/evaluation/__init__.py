"""Evaluation: the published metrics, torch-free, with BM25 always beside the models."""

from modernpubmed.evaluation.card import write_card
from modernpubmed.evaluation.compare import compare
from modernpubmed.evaluation.comparison import Comparison, read_comparison, write_comparison
from modernpubmed.evaluation.contrast import read_contrast_suite, score_contrast
from modernpubmed.evaluation.evaluate import (
    Result,
    evaluate,
    evaluate_bm25,
    read_result,
    score_run,
    write_result,
)
from modernpubmed.evaluation.ranking import rank
from modernpubmed.evaluation.rendering import render_markdown, render_text
from modernpubmed.evaluation.runs import read_run, write_run
from modernpubmed.evaluation.similarity import (
    correlate,
    read_similarity,
    similarity_examples,
    write_similarity,
)
from modernpubmed.evaluation.tabulate import compare_results

__all__ = [
    "Comparison",
    "Result",
    "compare",
    "compare_results",
    "correlate",
    "evaluate",
    "evaluate_bm25",
    "rank",
    "read_comparison",
    "read_contrast_suite",
    "read_result",
    "read_run",
    "read_similarity",
    "render_markdown",
    "render_text",
    "score_contrast",
    "score_run",
    "similarity_examples",
    "write_card",
    "write_comparison",
    "write_result",
    "write_run",
    "write_similarity",
]

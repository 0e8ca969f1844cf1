"""Models and BM25 on suites: evaluated, kept as they come, put side by side.

BM25 always stands beside the models: a figure without it says little. Every result and run is
written as soon as it is there, and what is there already is not measured again, so a comparison
that was stopped goes on. What the figures say is worked out in ``tabulate.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation.bm25 import BM25, bm25_settings
from modernpubmed.evaluation.comparison import Comparison, write_comparison
from modernpubmed.evaluation.evaluate import (
    Progress,
    Result,
    evaluate,
    evaluate_bm25,
    read_result,
    result_path,
    run_path,
    write_result,
)
from modernpubmed.evaluation.metrics import METRICS, metric_names, parse_metric
from modernpubmed.evaluation.significance import DRAWS, SEED
from modernpubmed.evaluation.similarity import correlate, similarity_examples, write_similarity
from modernpubmed.evaluation.tabulate import MAIN_METRIC, compare_results, refuse_repeated
from modernpubmed.manifest import code_version
from modernpubmed.protocols import TextEncoder
from modernpubmed.suites import SentencePairs, Suite, suite_checksum


def compare(
    encoders: Sequence[TextEncoder],
    suites: Sequence[Suite],
    *,
    pairs: Sequence[SentencePairs] = (),
    out: str | Path | None = None,
    metric: str = MAIN_METRIC,
    metrics: Sequence[str] = (),
    draws: int = DRAWS,
    seed: int = SEED,
    vectors: str | Path | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Evaluates models and BM25 on suites and puts them side by side.

    Args:
        encoders: The models; improvements are those of the first.
        suites: What to measure on.
        pairs: Judged sentence pairs, for correlations.
        out: A folder for one result JSON and one run file per model and suite (each written as
            soon as it is there), ``similarity.json`` and ``comparison.json``. A result that is
            there already, of the same model with the same prompts, version of the suite and
            version of this code, is not measured again: a comparison that was stopped goes on.
        metric: The main metric.
        metrics: Further metrics beside the published ones, as ``nDCG@20``.
        draws: Bootstrap samples and sets of signs.
        seed: What they start from.
        vectors: A folder that keeps vectors for the next time.
        progress: Called while encoding.

    Raises:
        ModernPubMedError: No encoder, neither suite nor pairs, or two of one name; ``out`` or
            ``vectors`` is a file; a metric is none; what ``evaluate`` refuses.
    """
    refuse_repeated("encoder", [*(encoder.name for encoder in encoders), BM25])
    refuse_repeated("suite", [suite.name for suite in suites])
    refuse_repeated("file of pairs", [file.name for file in pairs])
    if not encoders:
        raise ModernPubMedError("no encoder to compare", remedy="give at least one")
    if not suites and not pairs:
        raise ModernPubMedError("nothing to compare on", remedy="give at least one suite")
    for folder in (out, vectors):
        _refuse_file(folder)
    metric = str(parse_metric(metric))
    further = metric_names((), (metric, *metrics))
    if draws < 1:
        raise ModernPubMedError(f"draws is {draws}", remedy="give 1 or more")
    with TemporaryDirectory(prefix="modernpubmed-") as temporary:
        # Without a folder the runs are needed as well, to show what the models returned.
        runs = Path(temporary) if out is None else Path(out)
        results = []
        for suite in suites:
            version = suite_checksum(suite)
            for encoder in encoders:
                known = _known(out, suite, version, further, encoder)
                if known is None:
                    known = evaluate(
                        encoder,
                        suite,
                        metrics=further,
                        runs=runs,
                        vectors=vectors,
                        progress=progress,
                    )
                    _keep(known, out)
                results.append(known)
            known = _known(out, suite, version, further, None)
            if known is None:
                known = evaluate_bm25(suite, metrics=further, runs=runs)
                _keep(known, out)
            results.append(known)
        examples = tuple(score for encoder in encoders for score in similarity_examples(encoder))
        correlations = tuple(correlate(encoder, file) for file in pairs for encoder in encoders)
        if out is not None:
            write_similarity(out, examples, correlations)
        comparison = compare_results(
            results,
            examples,
            correlations,
            suites=suites,
            runs=runs,
            metric=metric,
            draws=draws,
            seed=seed,
        )
    if out is not None:
        write_comparison(comparison, out)
    return comparison


def _known(
    out: str | Path | None,
    suite: Suite,
    version: str,
    metrics: Sequence[str],
    encoder: TextEncoder | None,
) -> Result | None:
    """The result in ``out`` that measuring again would give, if there is one; None is BM25."""
    model = BM25 if encoder is None else encoder.name
    if out is None or not run_path(out, model, suite.name).is_file():
        return None
    try:
        result = read_result(result_path(out, model, suite.name))
    except ModernPubMedError:
        return None  # not there, damaged, or of an older version: measured again and replaced
    settings = result.manifest.settings
    if encoder is None:
        same = all(settings.get(key) == value for key, value in bm25_settings().items())
    else:
        # By the fingerprint, and by the prompts: not every encoder counts them in.
        prompts: Mapping[str, str] = getattr(encoder, "prompts", {})
        same = result.manifest.inputs.get("model") == encoder.fingerprint
        same = same and result.prompts == {
            role: prompts[role] for role in ("query", "document") if role in prompts
        }
    same = same and (result.model, result.suite) == (model, suite.name)
    same = same and result.suite_version == version
    same = same and result.manifest.version == code_version()
    same = same and list(result.metrics) == list(metric_names(METRICS, metrics))
    return result if same else None


def _keep(result: Result, out: str | Path | None) -> None:
    if out is not None:
        write_result(result, out)


def _refuse_file(folder: str | Path | None) -> None:
    # Before hours of encoding, not after.
    if folder is not None and Path(folder).exists() and not Path(folder).is_dir():
        raise ModernPubMedError(
            "exists and is not a folder", file=folder, remedy="give the name of a folder"
        )

"""The command line's verbs of the evaluation lab: suites, compare, evaluate, report, card.

As in ``cli.py``: arguments in, one call, print.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from modernpubmed.encoder import Encoder
from modernpubmed.errors import ModernPubMedError, needs_extra
from modernpubmed.terminal import AddVerb, report


def add_evaluation_verbs(verb: AddVerb) -> None:
    """Adds them, in the order in which they are listed."""
    add = verb("suites", _suites, "list the test suites, or make one as a BEIR folder")
    add.add_argument("name", nargs="?", help="the suite to make or fetch; without one, the list")
    add.add_argument("--out", type=Path, help="folder to write it to")
    add.add_argument("--suites", type=Path, help="folder that holds suites as BEIR folders")
    add.add_argument("--source", type=Path, help="your articles or pairs, for a PubMed suite")
    add.add_argument("--queries", type=int, default=1000, help="of a PubMed suite; %(default)s")
    add.add_argument("--distractors", type=int, default=50_000, help="the same; %(default)s")
    add.add_argument("--since", help="articles published on or after this date (YYYY-MM-DD)")
    add.add_argument("--until", help="articles published on or before it")

    add = verb("compare", _compare, "evaluate models and BM25 side by side")
    add.add_argument("models", nargs="+", help="folders or hub names; 'shipped' is the package's")
    add.add_argument("--suite", action="append", default=[], help="a BEIR folder, or a name")
    add.add_argument("--suites", type=Path, help="a folder: every suite in it")
    add.add_argument("--wiki-medical-terms", action="store_true", help="the published suite (hub)")
    add.add_argument("--pairs", type=Path, action="append", default=[], help="judged pairs, .tsv")
    add.add_argument("--metric", default="nDCG@10", help="the main metric; default %(default)s")
    add.add_argument("--metrics", nargs="+", default=[], help="further ones, as Recall@50")
    add.add_argument("--trec", action="store_true", help="print trec_eval's convention")
    add.add_argument(
        "--query-prompt",
        action="append",
        default=[],
        metavar="MODEL=TEXT",
        help="instead of its own",
    )
    add.add_argument("--document-prompt", action="append", default=[], metavar="MODEL=TEXT")
    add.add_argument("--contrast", choices=("dev", "test", "all"), help="clinical contrast suite")
    add.add_argument(
        "--non-medical",
        nargs="?",
        const="",
        metavar="FILE",
        help="tell apart; default our own texts",
    )
    add.add_argument("--related", type=Path, help="related pairs (.parquet) for --non-medical")
    add.add_argument(
        "--robustness",
        nargs="*",
        metavar="SUITE",
        help="typos, case, spelling, length; default all",
    )
    add.add_argument(
        "--trained-on", type=Path, nargs="+", default=[], help="the first model's training pairs"
    )
    add.add_argument("--speed", action="store_true", help="texts a second, in turns")
    add.add_argument("--full", action="store_true", help="all of these but --trained-on")
    add.add_argument("--markdown", action="store_true", help="print Markdown")
    add.add_argument("--vectors", type=Path, help="folder that keeps vectors for the next time")
    add.add_argument("--out", type=Path, help="folder for the results as JSON")

    add = verb("evaluate", _evaluate, "run MTEB's medical tasks on a model")
    add.add_argument("model", help="folder or hub name; 'shipped' is the package's")
    add.add_argument("--mteb", nargs="*", required=True, metavar="TASK", help="default all medical")
    add.add_argument("--out", type=Path, help="folder for MTEB's results")

    add = verb("report", _report, "make a page and Markdown of results")
    add.add_argument("results", type=Path, nargs="+", help="what 'compare --out' wrote")
    add.add_argument("--out", type=Path, required=True, help="folder for report.html and report.md")

    add = verb("card", _card, "write a model's card from results")
    add.add_argument("model", type=Path, help="the model folder")
    add.add_argument("results", type=Path, nargs="+", help="what 'compare --out' wrote")
    add.add_argument("--name", help="the model's name in the results")


def _compare(options: argparse.Namespace) -> None:
    from modernpubmed.evaluation.compare import compare
    from modernpubmed.evaluation.discrimination import discrimination_texts
    from modernpubmed.evaluation.lab import Lab, check, measure
    from modernpubmed.evaluation.rendering import render_markdown, render_text
    from modernpubmed.evaluation.robustness import publication_years
    from modernpubmed.registry import entries, get
    from modernpubmed.suites import Suite, read_sentence_pairs, read_suite

    if options.related and options.non_medical is None:
        raise ModernPubMedError("--related without --non-medical", remedy="give both")
    if options.full:
        options.contrast = options.contrast or "test"
        options.non_medical = options.non_medical or ""
        options.robustness = options.robustness or []
        options.speed = True
    further = (options.contrast, options.non_medical, options.robustness)
    if options.out is None and (
        options.trained_on or options.speed or any(one is not None for one in further)
    ):
        raise ModernPubMedError(
            "further measurements are kept beside the results", remedy="give --out FOLDER"
        )
    names = [*options.suite, *(["wiki_medical_terms"] if options.wiki_medical_terms else [])]
    # A path is told from a name by being there, or by looking like one.
    paths = {name for name in names if Path(name).exists() or len(Path(name).parts) > 1}
    read = {name: read_suite(name) if name in paths else get(name) for name in names}
    if options.suites is not None:
        own = [
            entry for entry in entries(options.suites) if entry.here() and entry.how == "on disk"
        ]
        read |= {entry.name: entry.make() for entry in own}
    suites = {name: suite for name, suite in read.items() if isinstance(suite, Suite)}
    pairs = [suite for suite in read.values() if not isinstance(suite, Suite)]
    pairs += [read_sentence_pairs(path) for path in options.pairs]
    loads = {name: _prompts(options, name) for name in options.models}
    encoders = [_load(name, prompts=prompts) for name, prompts in loads.items()]
    sources = {encoder.name: name for encoder, name in zip(encoders, loads, strict=True)}
    lab = Lab(
        contrast=options.contrast,
        discrimination=None
        if options.non_medical is None
        else discrimination_texts(options.related, options.non_medical or None),
        robustness=options.robustness,
        years={
            suite.name: publication_years(path) for path, suite in suites.items() if path in paths
        },
        trained_on=options.trained_on,
        speed=options.speed,
    )
    check(lab, list(suites.values()), encoders[0].folder)
    comparison = compare(
        encoders,
        list(suites.values()),
        pairs=pairs,
        out=options.out,
        metric=options.metric,
        metrics=options.metrics,
        vectors=options.vectors,
        progress=report,
    )
    if options.out is not None:
        measure(
            lab,
            encoders,
            list(suites.values()),
            comparison,
            options.out,
            folders={one.name: one.folder for one in encoders if one.folder is not None},
            cut=lambda name, tokens: _load(
                sources[name], max_tokens=tokens, prompts=loads[sources[name]]
            ),
            vectors=options.vectors,
            progress=report,
        )
    convention = "trec_eval" if options.trec else "sentence-transformers"
    render = render_markdown if options.markdown else render_text
    print(render(comparison, convention=convention), end="")


def _load(name: str, **settings: Any) -> Encoder:
    return Encoder.load(None if name == "shipped" else name, **settings)


def _prompts(options: argparse.Namespace, name: str) -> dict[str, str]:
    """The prompts given for a model instead of its own."""
    prompts = {}
    for role, given in (("query", options.query_prompt), ("document", options.document_prompt)):
        for setting in given:
            model, separator, text = setting.partition("=")
            if not separator or model not in options.models:
                raise ModernPubMedError(
                    f"{setting!r} is not MODEL=TEXT of one of the models",
                    remedy=f"write --{role}-prompt {options.models[0]}='search_query: '",
                )
            if model == name:
                prompts[role] = text
    return prompts


def _evaluate(options: argparse.Namespace) -> None:
    with needs_extra("mteb", "MTEB"):
        from modernpubmed.evaluation.mteb_tasks import render_mteb, run_mteb
    scores = run_mteb(_load(options.model), options.mteb or None, out=options.out, progress=report)
    print(render_mteb(scores), end="")


def _suites(options: argparse.Namespace) -> None:
    from modernpubmed.registry import TITLES, listing, save, save_titles

    if options.name is None:
        print(listing(options.suites), end="")
        return
    if options.out is None:
        raise ModernPubMedError("nowhere to write the suite to", remedy="give --out FOLDER")
    if options.name != TITLES:
        print(save(options.name, options.out, options.suites))
        return
    if options.source is None:
        raise ModernPubMedError(
            "no corpus to make titles and abstracts of", remedy="give --source ARTICLES"
        )
    print(
        save_titles(
            options.source,
            options.out,
            queries=options.queries,
            distractors=options.distractors,
            since=options.since,
            until=options.until,
        )
    )


def _report(options: argparse.Namespace) -> None:
    from modernpubmed.evaluation.report import write_report

    for path in write_report(options.results, options.out):
        print(path)


def _card(options: argparse.Namespace) -> None:
    from modernpubmed.evaluation.card import write_card
    from modernpubmed.evaluation.measurements import read_measurements

    print(write_card(options.model, read_measurements(options.results), name=options.name))

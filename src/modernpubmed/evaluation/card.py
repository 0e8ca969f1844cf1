"""The model card: the README.md of a model folder, written from results and the manifest.

Front matter is made by ``huggingface_hub`` (``ModelCardData``), so the hub shows the results; the
rest is plain Markdown. Nothing is computed here: figures come from result files, everything about
training from the folder's ``manifest.json``, and what neither says the card calls unknown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation.comparison import Comparison
from modernpubmed.evaluation.measurements import Measurements, with_first
from modernpubmed.evaluation.metrics import METRICS
from modernpubmed.evaluation.rendering import render_markdown
from modernpubmed.evaluation.report_view import further_markdown
from modernpubmed.manifest import MANIFEST_NAME, Manifest, replacing

_CARD_NAME = "README.md"

_USE = """\
## Use

With this project, without torch (a folder that has an exported graph):

```python
from modernpubmed import Encoder

encoder = Encoder.load("{path}")
vectors = encoder.encode(["heart attack", "myocardial infarction"])
print(encoder.similarity(["heart attack"], ["myocardial infarction", "asyncio.run()"]))
```

With sentence-transformers:

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{path}")
vectors = model.encode(["heart attack", "myocardial infarction"])
print(model.similarity(vectors, vectors))
```
"""

_INTENDED = """\
## Intended use

Search, matching, clustering and de-duplication of English biomedical and clinical text: titles
and abstracts, definitions, names of diseases and findings.

## Limits

- The vectors say how alike two texts are, not whether either is true, recent or retracted.
- Negation, sides, numbers, doses and look-alike drug names weigh little: "no fever" lies close to
  "fever". The table of clinical contrast, where there is one, says how little.
- Text beyond the model's length is cut. Languages other than English were not measured.
- The literature's own gaps and biases (whom it studies, what gets published) are in the model.
- **Not for diagnosis.** It is a research tool, not a medical device; no decision about a patient
  may rest on it.
"""


def write_card(
    model_folder: str | Path, measured: Measurements, *, name: str | None = None
) -> Path:
    """Writes a model's card to its folder; a README.md already there is replaced.

    Args:
        model_folder: The folder. Its ``manifest.json`` may be absent (another's model); its
            ``NOTICE`` is taken over as attribution.
        measured: What was measured of this model and of those it stands beside; of suites that
            this model has no result on, none is shown.
        name: The model's name as in the results; None is the folder's name.

    Returns:
        The path of the card.

    Raises:
        ModernPubMedError: There is no such folder, no result of this model, or its manifest is
            broken or that of something else.
    """
    from huggingface_hub import ModelCardData

    folder = Path(model_folder)
    if not folder.is_dir():
        raise ModernPubMedError("no such folder", file=folder, remedy="give a model folder")
    name = name or folder.resolve().name
    try:
        measured = with_first(measured, name)
    except ModernPubMedError as error:
        raise ModernPubMedError(error.cause, file=folder, remedy=error.remedy) from error
    manifest = _manifest(folder)
    settings: Mapping[str, Any] = {} if manifest is None else manifest.settings
    base = settings.get("base_model")
    data = ModelCardData(
        model_name=name,
        language="en",
        license=settings.get("license"),
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=[
            "sentence-transformers",
            "sentence-similarity",
            "feature-extraction",
            "biomedical",
            "pubmed",
            "modernpubmed",
        ],
        base_model=base if _is_hub_name(base) else None,
        metrics=list(METRICS.values()),
        eval_results=_eval_results(name, measured.comparison),
    )
    with replacing(folder / _CARD_NAME) as temporary:
        temporary.write_text(
            f"---\n{data.to_yaml()}\n---\n\n"
            + _body(folder.resolve().name, name, measured, manifest, _notice(folder)),
            "utf-8",
        )
    return folder / _CARD_NAME


def _eval_results(name: str, comparison: Comparison) -> list[Any]:
    """What the hub's leaderboards read: the eight metrics, and agreement with judgements."""
    from huggingface_hub import EvalResult

    retrieval = [
        EvalResult(
            task_type="information-retrieval",
            task_name="Information Retrieval",
            dataset_type=_data_set(result.suite),
            dataset_name=result.suite,
            metric_type=METRICS[metric],
            metric_name=metric,
            metric_value=result.metrics[metric],
        )
        for result in comparison.results
        if result.model == name
        for metric in METRICS
    ]
    similarity = [
        EvalResult(
            task_type="semantic-similarity",
            task_name="Semantic Similarity",
            dataset_type=_data_set(found.suite),
            dataset_name=found.suite,
            metric_type=kind,
            metric_name=words,
            metric_value=estimate.value,
        )
        for found in comparison.correlations
        if found.model == name
        for kind, words, estimate in (
            ("spearman_cosine", "Spearman Cosine", found.spearman),
            ("pearson_cosine", "Pearson Cosine", found.pearson),
        )
    ]
    return retrieval + similarity


def _data_set(suite: str) -> str:
    return re.sub(r"[^\w.-]", "_", suite)


def _body(
    path: str, name: str, measured: Measurements, manifest: Manifest | None, notice: str | None
) -> str:
    parts = [
        f"# {name}\n",
        "A sentence-transformers model that maps English biomedical text to vectors: texts that "
        "mean the same lie close together.\n",
        _USE.format(path=path),
        "## Evaluation\n",
        "The eight metrics of sentence-transformers' `InformationRetrievalEvaluator` (cosine; "
        f"gains of 0 and 1; from version 6 on ties go to the lower document id). {name} comes "
        "first; "
        "`improvement` is its lead over the column to the left. BM25: Lucene's variant, English "
        "stop words left out, no stemmer.\n",
        render_markdown(measured.comparison),
        *([further] if (further := further_markdown(measured)) else []),
        _training(manifest),
        _INTENDED,
        _terms(manifest, notice),
    ]
    return "\n".join(parts)


def _training(manifest: Manifest | None) -> str:
    lines = ["## Training\n"]
    if manifest is None:
        return "\n".join([*lines, "Unknown: the folder has no manifest of modernpubmed.\n"])
    settings = manifest.settings
    lines.append(f"- Base model: {settings.get('base_model', 'unknown')}")
    lines.append(f"- Made by modernpubmed {manifest.version}, {manifest.created}")
    if manifest.seed is not None:
        lines.append(f"- Seed: {manifest.seed}")
    if averaged := settings.get("averaged"):
        shares = ", ".join(f"{name} {model['share']:.2f}" for name, model in averaged.items())
        lines.append(f"- Weights averaged of: {shares}")
    lines += [f"- {_words(key)}: {count:,}" for key, count in manifest.counts.items()]
    lines += [f"- Left out, {_words(key)}: {count:,}" for key, count in manifest.dropped.items()]
    if manifest.inputs:
        lines += ["", "| Input | SHA-256 |", "| :-- | :-- |"]
        lines += [f"| {key} | `{checksum}` |" for key, checksum in manifest.inputs.items()]
    if "recipe" in settings:
        recipe = json.dumps(settings["recipe"], indent=2, ensure_ascii=False)
        lines += ["", "Recipe:", "", "```json", recipe, "```"]
    return "\n".join(lines) + "\n"


def _terms(manifest: Manifest | None, notice: str | None) -> str:
    settings: Mapping[str, Any] = {} if manifest is None else manifest.settings
    lines = ["## Licence and attribution\n", f"Licence: {settings.get('license', 'not stated')}.\n"]
    if "attribution" in settings:
        lines.append(f"{settings['attribution']}\n")
    if notice is not None:
        lines.append(f"```text\n{notice.rstrip()}\n```\n")
    return "\n".join(lines)


def _manifest(folder: Path) -> Manifest | None:
    if not (folder / MANIFEST_NAME).exists():
        return None
    manifest = Manifest.read(folder)
    if manifest.kind != "model":
        raise ModernPubMedError(
            f"a manifest of kind {manifest.kind!r}, not of a model",
            file=folder / MANIFEST_NAME,
            remedy="give a model folder",
        )
    return manifest


def _notice(folder: Path) -> str | None:
    file = folder / "NOTICE"
    return file.read_text("utf-8") if file.is_file() else None


def _is_hub_name(name: object) -> bool:
    # A local path of this very form cannot be told from a hub name, unless it is there.
    return (
        isinstance(name, str)
        and re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name) is not None
        and not Path(name).exists()
    )


def _words(key: str) -> str:
    return key.replace("_", " ")

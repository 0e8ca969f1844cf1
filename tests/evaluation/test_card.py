from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard, metadata_load
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results

from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation import compare, write_card
from modernpubmed.evaluation.measurements import read_measurements
from modernpubmed.evaluation.metrics import METRICS
from modernpubmed.manifest import Manifest

MANIFEST = Manifest(
    kind="model",
    inputs={"pairs.parquet": "b" * 64, "base_model": "c" * 64},
    settings={
        "base_model": "owner/base-model",
        "recipe": {"run": {"steps": 70}},
        "license": "apache-2.0",
        "attribution": "Built on base-model, © its authors.",
    },
    counts={"train_pairs": 12345},
    dropped={"no abstract": 6},
    seed=42,
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "my-model"
    folder.mkdir()
    MANIFEST.write(folder)
    (folder / "NOTICE").write_text("Notice of others.\n")
    return folder


@pytest.fixture
def results(bag, suite, tmp_path: Path):
    out = tmp_path / "results"
    compare([bag("base", dimension=16), bag("my-model", dimension=512)], [suite], out=out)
    return read_measurements([out])


def test_the_hub_reads_the_front_matter(model: Path, results) -> None:
    path = write_card(model, results)
    assert path == model / "README.md"
    metadata = metadata_load(path)
    assert metadata["language"] == "en"
    assert metadata["license"] == "apache-2.0"
    assert metadata["library_name"] == "sentence-transformers"
    assert metadata["pipeline_tag"] == "sentence-similarity"
    assert metadata["base_model"] == "owner/base-model"
    assert "sentence-transformers" in metadata["tags"]
    card = ModelCard.load(path)
    assert card.data.model_name == "my-model"
    (own,) = (result for result in results.comparison.results if result.model == "my-model")
    assert {
        (found.dataset_name, found.metric_name, found.metric_type): found.metric_value
        for found in card.data.eval_results
    } == {("tiny", name, METRICS[name]): own.metrics[name] for name in METRICS}
    # Through the hub's own form and back nothing is lost.
    name, back = model_index_to_eval_results(metadata["model-index"])
    assert name == "my-model"
    assert eval_results_to_model_index(name, back) == metadata["model-index"]
    front = path.read_text().split("---\n")[1]
    assert yaml.safe_load(front) == metadata


def test_the_text(model: Path, results) -> None:
    text = write_card(model, results).read_text()
    assert 'Encoder.load("my-model")' in text
    assert 'SentenceTransformer("my-model")' in text
    assert "| Metric | my-model | base | improvement | BM25 | improvement |" in text
    assert "“diabetes type 2” – “asyncio.run()”" in text
    assert "| Pair | my-model | base |" in text
    assert f"| pairs.parquet | `{'b' * 64}` |" in text
    assert "- train pairs: 12,345" in text
    assert "- Left out, no abstract: 6" in text
    assert "- Seed: 42" in text
    assert '"steps": 70' in text
    assert "Built on base-model, © its authors." in text
    assert "Notice of others." in text
    assert "Not for diagnosis" in text
    assert "Licence: apache-2.0." in text


def test_the_snippets_are_valid_python(model: Path, results) -> None:
    text = write_card(model, results).read_text()
    snippets = [part.split("```")[0] for part in text.split("```python\n")[1:]]
    assert len(snippets) == 2
    for snippet in snippets:
        compile(snippet, "card", "exec")


def test_a_foreign_model_without_a_manifest(model: Path, results) -> None:
    (model / "manifest.json").unlink()
    path = write_card(model, results)
    assert "Unknown: the folder has no manifest" in path.read_text()
    metadata = metadata_load(path)
    assert "base_model" not in metadata
    assert "license" not in metadata


def test_a_local_base_model_is_not_given_to_the_hub(model: Path, results) -> None:
    Manifest(kind="model", settings={"base_model": "/models/base"}).write(model)
    path = write_card(model, results)
    assert "base_model" not in metadata_load(path)
    assert "Base model: /models/base" in path.read_text()


@pytest.mark.usefixtures("results")
def test_only_suites_of_this_model_are_shown(model: Path, suite, bag, tmp_path) -> None:
    from dataclasses import replace

    out = tmp_path / "more"
    compare([bag("base", dimension=16)], [replace(suite, name="elsewhere")], out=out)
    both = read_measurements([out, tmp_path / "results"])
    assert {table.suite for table in both.comparison.tables} == {"elsewhere", "tiny"}
    assert "elsewhere" not in write_card(model, both).read_text()


def test_what_gives_no_card(model: Path, results) -> None:
    every = results
    with pytest.raises(
        ModernPubMedError, match=r"no result of other \(there: base, my-model, BM25"
    ):
        write_card(model, every, name="other")
    with pytest.raises(ModernPubMedError, match="nowhere: no such folder"):
        write_card(model.parent / "nowhere", every)
    Manifest(kind="pairs").write(model)
    with pytest.raises(ModernPubMedError, match=r"manifest\.json: a manifest of kind 'pairs'"):
        write_card(model, every)
    assert not (model / "README.md").exists()

"""What the package ships: whole, licensed, traceable, and what its card says it is."""

from __future__ import annotations

import numpy as np
import pytest
from huggingface_hub import ModelCard
from safetensors.numpy import load_file

from modernpubmed import Encoder
from modernpubmed.encoder import TruncationWarning
from modernpubmed.encoder.encoder import SHIPPED, SHIPPED_MODEL
from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import Manifest, sha256

#: all-MiniLM-L6-v2's model.safetensors, as two independent packages carry it.
BASE_WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def test_licence_and_attribution_lie_beside_the_weights():
    assert "Apache License" in (SHIPPED_MODEL / "LICENSE").read_text()
    notice = (SHIPPED_MODEL / "NOTICE").read_text()
    assert "sentence-transformers/all-MiniLM-L6-v2" in notice
    assert "Changes" in notice


def test_the_manifest_leads_back_to_the_base_and_the_data():
    manifest = Manifest.read(SHIPPED_MODEL)
    assert manifest.kind == "model"
    assert manifest.inputs["base_weights"] == BASE_WEIGHTS
    sources = {key for key in manifest.inputs if key.startswith("train_pairs/")}
    assert len(sources) == 5
    assert manifest.inputs["modernpubmed-mini-1/base_weights"] == BASE_WEIGHTS
    assert all(len(manifest.inputs[key]) == 64 for key in sources)
    assert manifest.counts["pairs_seen"] > 0
    assert manifest.settings["license"] == "apache-2.0"


def test_the_weights_are_fp16_and_not_the_bases():
    tensors = load_file(SHIPPED_MODEL / "model.safetensors")
    assert {t.dtype for t in tensors.values() if t.ndim > 1} == {np.dtype("float16")}
    assert sha256(SHIPPED_MODEL / "model.safetensors") != BASE_WEIGHTS


def test_the_card_is_one_that_the_hub_reads():
    card = ModelCard.load(SHIPPED_MODEL / "README.md")
    assert card.data.license == "apache-2.0"
    assert card.data.base_model == "sentence-transformers/all-MiniLM-L6-v2"
    measured = {(r.dataset_name, r.metric_name): r.metric_value for r in card.data.eval_results}
    assert len(measured) >= 16
    assert all(0 <= value <= 1 for value in measured.values())
    assert "Not for diagnosis" in card.content


def test_it_reads_512_tokens():
    assert Encoder.load().max_tokens == 512


def test_related_texts_are_near_and_others_far():
    encoder = Encoder.load()
    near = encoder.similarity(
        ["The patient was diagnosed with hypertension."], ["The patient has high blood pressure."]
    )
    far = encoder.similarity(["diabetes type 2"], ["asyncio.run()"])
    assert near[0, 0] > 0.6
    assert far[0, 0] < 0.2


def test_the_card_says_what_was_averaged():
    card = (SHIPPED_MODEL / "README.md").read_text()
    assert "- Weights averaged of: trained 0.75, modernpubmed-mini-1 0.25\n" in card


def test_all_of_it_fits_in_80_megabytes():
    files = [file for folder in SHIPPED.values() for file in folder.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 80e6


def test_nano_is_ours_and_says_who_taught_it():
    folder = SHIPPED["modernpubmed-nano"]
    assert "Apache License" in (folder / "LICENSE").read_text()
    assert "taught by\nModernPubMed-mini" in (folder / "NOTICE").read_text()
    card = ModelCard.load(folder / "README.md")
    assert card.data.license == "apache-2.0"
    assert len(card.data.eval_results) >= 16
    assert "Not for diagnosis" in card.content
    manifest = Manifest.read(folder)
    assert len({key for key in manifest.inputs if key.startswith("train_pairs/")}) == 5


def test_nano_is_loaded_by_its_name_and_reads_2048_tokens():
    encoder = Encoder.load("modernpubmed-nano")
    assert (encoder.max_tokens, encoder.dimension) == (2048, 256)
    near = encoder.similarity(["diabetes type 2"], ["Type II diabetes mellitus"])
    far = encoder.similarity(["diabetes type 2"], ["asyncio.run()"])
    assert near[0, 0] > far[0, 0] + 0.3


def test_nano_reads_what_mini_would_cut():
    filler = "The committee met again in the morning. " * 80
    texts = [filler, filler + "Severe hypertension led to kidney failure. " * 80]
    whole = Encoder.load("modernpubmed-nano")
    plain, medical = whole.encode(texts)
    assert whole.truncated == 0
    assert float(plain @ medical) < 0.9
    cut = Encoder.load("modernpubmed-nano", max_tokens=512)
    with pytest.warns(TruncationWarning):
        plain, medical = cut.encode(texts)
    assert cut.truncated == 2
    assert float(plain @ medical) > 0.999


@pytest.mark.parametrize("name", SHIPPED)
def test_a_name_in_the_package_needs_no_hub(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Encoder.load(name).folder == SHIPPED[name]


def test_a_folder_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "modernpubmed-nano").mkdir()
    with pytest.raises(ModernPubMedError):
        Encoder.load("modernpubmed-nano")

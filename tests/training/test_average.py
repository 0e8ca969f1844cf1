from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import Manifest
from modernpubmed.training.average import average

NAME = "embeddings.word_embeddings.weight"


@pytest.fixture
def models(tiny_model: Path, tmp_path: Path) -> tuple[Path, Path]:
    one = Path(shutil.copytree(tiny_model, tmp_path / "one"))
    two = Path(shutil.copytree(tiny_model, tmp_path / "two"))
    tensors = load_file(two / "model.safetensors")
    tensors[NAME] = tensors[NAME] + np.float32(1)
    save_file(tensors, two / "model.safetensors", metadata={"format": "pt"})
    Manifest(kind="model", counts={"train_pairs": 5}, seed=3).write(one)
    return one, two


@pytest.mark.parametrize(("weights", "step"), [(None, 0.5), ([3.0, 1.0], 0.25), ([1.0, 0.0], 0.0)])
def test_the_weighted_mean(models, tmp_path: Path, weights, step: float):
    manifest = average(models, tmp_path / "mean", weights=weights)
    before = load_file(models[0] / "model.safetensors")
    after = load_file(tmp_path / "mean" / "model.safetensors")
    for name, tensor in after.items():
        expected = before[name] + (step if name == NAME else 0)
        np.testing.assert_allclose(tensor, expected, atol=1e-6, err_msg=name)
    assert Manifest.read(tmp_path / "mean") == manifest
    assert manifest.counts == {"train_pairs": 5}
    shares = [entry["share"] for entry in manifest.settings["averaged"].values()]
    assert shares == pytest.approx([1 - step, step])


def test_the_manifest_names_what_every_model_was_made_of(models, tmp_path: Path):
    one, two = models
    Manifest(kind="model", inputs={"train_pairs": "a" * 64}).write(one)
    Manifest(kind="model", inputs={"train_pairs": "b" * 64}).write(two)
    manifest = average(models, tmp_path / "mean")
    assert manifest.inputs == {"train_pairs": "a" * 64, "two/train_pairs": "b" * 64}


def test_what_does_not_fit_is_refused(models, tmp_path: Path):
    one, two = models
    out = tmp_path / "mean"
    for weights in ([1.0], [0.0, 0.0], [2.0, -1.0]):
        with pytest.raises(ModernPubMedError, match="do not fit"):
            average(models, out, weights=weights)
    with pytest.raises(ModernPubMedError, match="two or more"):
        average([one], out)
    with pytest.raises(ModernPubMedError, match="exists already"):
        average(models, two)
    (two / "model.safetensors").unlink()
    with pytest.raises(ModernPubMedError, match="cannot be loaded"):
        average(models, out)
    assert not out.exists()

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from random import Random

import pytest

from modernpubmed.pairs import write_pairs
from modernpubmed.records import Pair
from modernpubmed.training.recipe import Recipe, read_recipe

TOPICS = ("heart", "liver", "kidney", "cough", "asthma", "stroke", "insulin", "cancer")
FILLERS = "study risk therapy disease trial cohort outcome surgery dose blood fever with of".split()
FORMS = ("acute", "chronic", "high", "low", "children", "patients")


TRAIN = """
import sys
from pathlib import Path
from modernpubmed.training.recipe import read_recipe
from modernpubmed.training.train import train
train(read_recipe(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3]), base=sys.argv[4])
"""


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """48 pairs to train on, 16 of them to evaluate on; no two are near-duplicates."""
    folder = tmp_path / "pairs"
    random = Random(1)
    rows = []
    for number, topic in enumerate(TOPICS):
        for place, form in enumerate(FORMS):
            words = [topic, topic, form, *random.sample(FILLERS, 3 + number % 5)]
            random.shuffle(words)
            rows.append(Pair(f"{form} {topic}", " ".join(words), pmid=100 + 10 * number + place))
    folder.mkdir()
    write_pairs(rows, folder / "train.parquet")
    write_pairs(rows[::3], folder / "dev.parquet")
    return folder


@pytest.fixture
def recipe() -> Recipe:
    """A small one: 12 steps of 8 pairs."""
    tryout = read_recipe(Path(__file__).parents[2] / "recipes" / "tryout.toml")
    run = dataclasses.replace(
        tryout.run, steps=12, checkpoint_every=4, evaluate_every=6, dev_pairs=16
    )
    source = dataclasses.replace(
        tryout.sources[0], anchor_tokens=12, positive_tokens=24, batch_size=8
    )
    optimizer = dataclasses.replace(tryout.optimizer, learning_rate=3e-3, warmup_steps=2)
    return dataclasses.replace(
        tryout,
        run=run,
        sources=(source,),
        max_tokens=32,
        optimizer=optimizer,
        loss=dataclasses.replace(tryout.loss, symmetric=True),
    )


@pytest.fixture(scope="session")
def still_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model without dropout, for comparisons of runs that draw other random numbers."""
    folder = tmp_path_factory.mktemp("still") / "tiny"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def train_script(tmp_path: Path) -> Path:
    """A script that trains: recipe, pairs, output and base are its arguments."""
    path = tmp_path / "train.py"
    path.write_text(TRAIN)
    return path

from __future__ import annotations

import json
import re
from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pytest

from phyla.types import Grouping, Images, PhylaError, Recipe

RECIPE = Recipe("groups", "vote", {"n_clusters": None, "agreement": 0.5}, ("pca-0123",), 2, 7)


def test_the_key_is_for_ever() -> None:
    """Projects on people's disks are found by it: a change here loses them all their work."""
    assert RECIPE.key == "vote-23f717ed6b23"


@pytest.mark.parametrize(
    "change",
    [
        {"room": "reduced"}, {"method": "kmeans"}, {"params": {"n_clusters": 3, "agreement": 0.5}},
        {"params": {}}, {"inputs": ("pca-0124",)}, {"inputs": ()}, {"version": 3}, {"seed": 8},
    ],
    ids=str,
)  # fmt: skip
def test_every_field_changes_the_key(change: dict) -> None:
    assert replace(RECIPE, **change).key != RECIPE.key


def test_every_field_is_told_apart_above() -> None:
    assert {f.name for f in fields(Recipe)} == {"room", "method", "params", "inputs", "version", "seed"}


def test_the_order_of_params_does_not_count() -> None:
    turned = replace(RECIPE, params=dict(reversed(RECIPE.params.items())))
    assert list(turned.params) != list(RECIPE.params)
    assert turned.key == RECIPE.key


def test_the_order_of_inputs_counts() -> None:
    assert Recipe("groups", "vote", inputs=("a", "b")).key != Recipe("groups", "vote", inputs=("b", "a")).key


@pytest.mark.parametrize(
    "method",
    ["onnx:path/to x.onnx", "hf:Org/Repo", "../../up", "CON", "é🙂", "a" * 500, "a\\b\0c", "openclip:ViT-B-32/laion2b"],
)
def test_the_key_is_a_safe_folder_name(method: str) -> None:
    key = Recipe("features", method).key
    assert re.fullmatch("[a-z0-9-]{13,60}", key), key


def test_two_paths_that_look_alike_have_two_keys() -> None:
    assert Recipe("features", "onnx:a/b.onnx").key != Recipe("features", "onnx:a-b.onnx").key


def test_a_recipe_survives_json() -> None:
    told = json.loads(RECIPE.to_json())
    assert Recipe(**told | {"inputs": tuple(told["inputs"])}) == RECIPE


def test_values_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        RECIPE.seed = 1  # type: ignore[misc]


def test_an_error_says_what_and_what_to_do() -> None:
    assert str(PhylaError("It is so.", "Do that.")) == "It is so.\nDo that."
    assert str(PhylaError("It is so.")) == "It is so."


def test_sizes() -> None:
    none = np.zeros(0, np.int32)
    images = Images(np.array(["a", "b"]), np.array(["x", "y"]), none, none, lambda row, side: np.zeros((1, 1, 3), "u1"))
    assert len(images) == 2
    grouping = Grouping(np.array([0, -1, 2]), np.array([0, 1, 2]), np.ones(3, np.float32), {}, RECIPE)
    assert grouping.n_groups == 3
    assert replace(grouping, labels=none, best=none).n_groups == 0

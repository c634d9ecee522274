"""Post-processing that would be done twice, or leaves nothing to judge by, is refused."""

from __future__ import annotations

import pytest

from pocketforge.errors import RecipeError
from pocketforge.recipe import Recipe
from pocketforge.recipe.packed import judged_as_packed
from pocketforge.recipe.toml import parse_recipe

RECIPE = """
name = "x"
model = { definition = "m.py" }
[data]
source = "imagefolder:d"
[[target]]
name = "t"
runtime = "onnx"
package = { postprocess = "%s" }
[[output]]
"""


def read(postprocess: str, output: str) -> Recipe:
    return parse_recipe(RECIPE % postprocess + output)


@pytest.mark.parametrize(
    ("postprocess", "output", "words"),
    [
        ("softmax", 'role = "logits"\npost = "none"', "probabilities already, and softmax of them"),
        ("sigmoid", 'role = "multilabel"\npost = "none"', "probabilities already, and sigmoid of them"),
        ("sigmoid", 'role = "binary"\npost = "none"', "probabilities already, and sigmoid of them"),
        ("argmax", 'role = "segmentation"\npost = "none"', "class numbers already, and argmax of them"),
        ("argmax", 'role = "logits"\nmetrics = ["accuracy_top5"]', "accuracy_top5 cannot be taken of: use softmax"),
    ],
)
def test_what_is_finished_is_not_finished_again(postprocess: str, output: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read(postprocess, output)
    (found,) = caught.value.faults
    assert words in found


def test_the_largest_of_probabilities_is_the_answer_as_of_scores() -> None:
    recipe = read("argmax", 'role = "logits"\npost = "none"\nmetrics = ["accuracy_top5", "macro_f1"]')
    (judged,) = judged_as_packed(recipe.targets[0].package, recipe.judged)
    assert judged.metric_names == ("macro_f1",)


def test_a_finished_answer_is_of_fixed_shapes_as_all_that_is_inside() -> None:
    varying = 'definition = "m.py", input = [{ shape = [1, 3, "H:8..16", 8] }]'
    text = (RECIPE % "softmax").replace('definition = "m.py"', varying) + 'role = "logits"'
    with pytest.raises(RecipeError, match=r"package\.postprocess: what is inside is of fixed shapes, .* sizes = "):
        parse_recipe(text)
    of_sizes = text.replace('"onnx"', '"onnx"\nsizes = [[8], [16]]')
    resized = of_sizes.replace('"imagefolder:d"', '"imagefolder:d"\npreprocess = { resize = [16, 8] }')
    assert parse_recipe(resized).targets[0].package.packs

"""A small cut of the zoo: nets that no other test builds, trained and built as `nox -s zoo` does it, a lane each."""

from __future__ import annotations

from pathlib import Path

import pytest
from zoo.builds import Place
from zoo.check import held_against
from zoo.lanes import judged
from zoo.nets import BY_NAME
from zoo.train import train

INT8 = "static_int8"


@pytest.mark.parametrize(("name", "runtime", "least"), [("har_cnn", "tflite", 0.6), ("siamese", "executorch", 0.7)])
def test_a_net_of_the_zoo_is_right_in_8_bits(name: str, runtime: str, least: float, tmp_path: Path) -> None:
    place = Place(BY_NAME[name], tmp_path)
    place.write([(runtime, INT8)])
    train(place.net, place.recipe, place.weights)
    built = place.build(((runtime, INT8),))
    found = held_against(name, place.weights, place.recipe, built.files)
    (lane,) = (judged(each, *found.get(f"{runtime} {INT8}", (None, None, ""))) for each in built.lanes)
    assert (lane.outcome, lane.why) == ("PASS", "")
    assert lane.metric_file is not None and lane.metric_file >= least, lane
    assert lane.own_db is not None and lane.own_db > 12, lane

"""Names of bands and models are read in one place: what is none is refused, and what is one comes back as it was."""

from __future__ import annotations

import copy
import json
import pickle

import pytest

from latentcortex.bands import Band, Model
from latentcortex.errors import InputError

JOINT = "z+zc_strength-80_step-100"


@pytest.mark.parametrize("name", ["", "z_", "_z", "z_strength", "z_strength-", "z-80", "a/b", "z__a-1", "é"])
def test_a_name_that_is_not_made_like_a_band_is_an_input_error(name: str) -> None:
    with pytest.raises(InputError, match="is not a name"):
        Band(name)
    with pytest.raises(InputError, match="is not a name"):
        Model.parse(f"z+{name}")
    with pytest.raises(InputError):
        Band("zc_strength-a").number("strength")


def test_a_band_is_its_name_wherever_strings_are_taken() -> None:
    band = Band("zc_strength-80_step-100")
    assert {str(band): 1}[band] == 1
    assert json.loads(json.dumps({"band": band})) == {"band": "zc_strength-80_step-100"}
    assert (band.kind, band.number("step")) == ("zc", 100)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_model_is_the_tuple_of_its_bands_and_survives_being_sent(again) -> None:
    model = again(Model.parse(JOINT))
    assert model == ("z", "zc_strength-80_step-100") == tuple(Model(model))
    assert model.name == str(model) == JOINT
    assert [band.kind for band in model] == ["z", "zc"]

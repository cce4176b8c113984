"""What a run lets through: trials that are not as independent as they look, and stimuli that are one."""

from __future__ import annotations

from functools import partial

import _battery_checks as battery
from _rates import missed
from _rates import runs as runs_of

from latentcortex import BandedRidge
from latentcortex.encoding import Criterion, Folds
from latentcortex.splits import Splits

runs = partial(runs_of, battery.BATTERY)


@runs("mini_blocks")
def test_drift_in_mini_blocks_passes_for_prediction_and_is_refused_unless_whole_runs_are_held_out(n: int) -> None:
    assert missed(battery.mini_blocks(n)) == []


@runs("jittered")
def test_pictures_under_many_ids_share_a_fold_and_stop_a_run_whose_split_parts_them(n: int) -> None:
    assert missed(battery.jittered(n)) == []


@runs("baselines")
def test_runs_that_are_held_out_are_predicted_once_they_are_z_scored_by_themselves(n: int) -> None:
    assert missed(battery.baselines(n)) == []


@runs("categories")
def test_penalties_of_categories_are_chosen_as_well_as_by_generalised_cross_validation(n: int) -> None:
    assert missed(battery.categories(n)) == []


def test_groups_that_all_differ_in_size_are_flipped_since_none_could_change_places() -> None:
    shown = battery.drifting(0, n_voxels=20)
    sizes = {"uneven": [40, 50, 60, 70, 80, 84], "even": [96] * 4}
    names = {}
    for kind, each in sizes.items():
        groups = [str(k) for k, size in enumerate(each) for _ in range(size)]
        splits = Splits.k_fold(shown.ids, 3, groups=groups, seed=0)
        folds = Folds.of(shown.bands, shown.responses, splits, "session")
        names[kind] = folds.null_of(folds.predict(BandedRidge(selection="gcv")), Criterion(null="permutation")).name
    assert names == {"uneven": "clusters", "even": "permutation"}

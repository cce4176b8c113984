"""Single trials as GLMsingle estimated them, read from its own files.

ROOT/stimuli.tsv, ROOT/stimuli/         as in a folder, see `Folder`
ROOT/sub-01/TYPED_FITHRF_GLMDENOISE_RR.hdf5 (from Python, `wanthdf5=1`), or .mat (from MATLAB, version 7.3)
ROOT/sub-01/trials.tsv                  stimulus_id, session, run, onset, split; row i is trial i of GLMsingle

GLMsingle knows stimuli as columns of a design matrix only: which trial showed which one is taken from a table in the
order of runs and onsets, or from the events of a BIDS dataset.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final, Literal

import numpy as np
import pandas as pd

from latentcortex._arrays import FloatArray, IntArray, digest, fingerprint, listed
from latentcortex._files import sha256, writing
from latentcortex._nifti import read_grid
from latentcortex._ranges import NoEffect, Participants
from latentcortex.datasets import _glmsingle, check_participants, responses_of_slice
from latentcortex.datasets._glmsingle import Betas, Kind
from latentcortex.datasets._recording import Placement, taken
from latentcortex.datasets._sampling import sampled_print
from latentcortex.datasets._stimulus_table import StimulusTable
from latentcortex.datasets._trials import check_columns, described, in_time, note_scale, read_events, read_trials
from latentcortex.datasets._voxel_major import TrialBlocks, default_scratch
from latentcortex.errors import AlignmentError, InputError
from latentcortex.executors import run_program
from latentcortex.responses import Responses
from latentcortex.space import Space, Surface, Unlocated, Volume
from latentcortex.stimuli import Stimuli

logger = logging.getLogger(__name__)

PARTICIPANT: Final = "{participant}"
Order = Literal["C", "F"]
SAMPLED: Final = 64
"""Voxels by which the unit of the amplitudes is judged."""
CHOSEN: Final = {
    "B": "the HRF of each voxel",
    "C": "the HRF of each voxel and the number of noise regressors",
    "D": "the HRF and the ridge fraction of each voxel and the number of noise regressors",
}
TUNING: Final = (
    "GLMsingle chose {what} on all trials, repeats of test stimuli included: test responses are not independent of its "
    "tuning, and noise ceilings and scores may be a little too high"
)
REFERENCE: Final = """
@article{prince2022,
  author = {Prince, J. S. and Charest, I. and Kurzawski, J. W. and Pyles, J. A. and Tarr, M. J. and Kay, K. N.},
  year = {2022},
  title = {{Improving the accuracy of single-trial fMRI response estimates using GLMsingle}},
  journal = {eLife},
  volume = {11},
  pages = {e77599},
  doi = {10.7554/eLife.77599},
}
"""


@dataclass(eq=False)
class GLMsingleKeys:
    """What a study file may say of GLMsingle's outputs; see `GLMsingle`."""

    root: str
    participants: Participants = ("01",)
    _: KW_ONLY
    outputs: str = "sub-{participant}"
    betas: Kind = "D"
    trials: str = "trials.tsv"
    events: str | None = None
    columns: Mapping[str, str] | None = None
    mask: str | None = None
    order: Order | None = None
    reference: str | None = None
    template: str | None = None
    transform: str | None = None
    background: str | None = None
    convert: bool = False
    any_size: bool = False
    scratch: Annotated[str, NoEffect] | None = None

    def __post_init__(self) -> None:
        """Make of the keys what the dataset needs."""


class GLMsingle(GLMsingleKeys):
    """Single-trial amplitudes of GLMsingle, with a table of trials or the events of a BIDS dataset.

    Parameters
    ----------
    root : str
        The folder of `stimuli.tsv` and `stimuli`, in which other names are looked for.
    participants : sequence of str
        Their labels.
    outputs : str
        The folder of GLMsingle's outputs, from `root` on; `{participant}` stands for the label. It must hold one
        TYPEB, TYPEC or TYPED file, `.hdf5` from Python or `.mat` of version 7.3 from MATLAB.
    betas : {"B", "C", "D"}
        Which type: B with an HRF for each voxel, C also denoised, D also with ridge regression.
    trials : str
        Table of trials, .tsv or .csv, in the order of runs and onsets, from the folder of outputs or from `root` on.
    events : str, optional
        In place of `trials`: where the events of the runs are, from `root` on, such as
        `../bids/sub-{participant}/**/*_task-images*_events.tsv`. Runs are in the order of session and run.
    columns : mapping of str to str, optional
        What the table calls its columns stimulus, session, run, split and onset, if not stimulus_id (in events
        stim_file), session, run, split, onset.
    mask : str, optional
        NIfTI image of 0 and 1 on the grid of the betas; by default all voxels, whose position is then unknown. Of betas
        without a grid, the mask that they were taken with.
    order : {"C", "F"}, optional
        Of betas without a grid, with `mask`: whether they were taken in numpy's order or in MATLAB's. By default that
        of the program that wrote the file.
    reference : str, optional
        With `mask`: the space that it is in, such as `T1w`.
    template : str, optional
        Of betas without a grid: cortex whose vertices they are. With `mask`, the cortex that voxels are drawn on.
    transform : str, optional
        With `mask` and `template`: where the surfaces are among the voxels, see `Folder`.
    background : str, optional
        With `mask`: anatomical image drawn behind cuts.
    convert : bool
        Whether a pickled `.npy` file is copied into HDF5, in `scratch`, by a process of its own that makes nothing but
        arrays of numbers of it.
    any_size : bool
        Whether images may differ in size; each is resized by the extractor.
    scratch : str, optional
        Where copies are kept, by default within the user's cache.

    Raises
    ------
    InputError
        If the folder is missing, or what belongs together is not given together.
    """

    references = REFERENCE

    def __post_init__(self) -> None:
        self._root = Path(self.root)
        if not self._root.is_dir():
            raise InputError(f"Dataset folder {self._root} is not there; check `root`.")
        self.participants = check_participants(self.participants)
        if len(self.participants) > 1 and PARTICIPANT not in self.outputs:
            raise InputError(
                f"`outputs` in [dataset] is one folder for {len(self.participants)} participants; write {PARTICIPANT} "
                "where the label stands."
            )
        self._columns = dict(self.columns or {})
        check_columns(self._columns)
        background = taken(self, "background")
        self.placement = Placement(self.template, self.mask, self.reference, self.transform, background)
        self._scratch = Path(self.scratch) if self.scratch else default_scratch()
        self._stimuli = StimulusTable(self._root, self.any_size)
        self._estimates: dict[str, Estimates] = {}

    def _of(self, participant: str) -> Estimates:
        """Find the trials and the estimates of a participant."""
        if participant not in self.participants:
            raise InputError(f"No participant {participant!r}; there is {listed(map(repr, self.participants))}.")
        if participant not in self._estimates:
            folder = self._root / self.outputs.replace(PARTICIPANT, participant)
            path = _glmsingle.found(folder, self.betas)
            if path.suffix == ".npy":
                path = self._converted(path)
            betas = Betas.open(path)
            source, table = self._trials(participant, folder)
            self._stimuli.check_known(source, table)
            betas.check_trials(len(table), source)
            if not _glmsingle.check_design(folder, table, source):
                sentence = "%s has no DESIGNINFO that can be read: that trials are in GLMsingle's order is not checked."
                logger.info(sentence, folder)
            self._estimates[participant] = Estimates(
                self._root, folder, betas, table, source, self.placement, self.order, self._scratch
            )
            logger.warning("%s.", TUNING.format(what=CHOSEN[self.betas]), extra={"facts": {"file": path.name}})
        return self._estimates[participant]

    def _trials(self, participant: str, folder: Path) -> tuple[Path, pd.DataFrame]:
        """Read the trials in the order in which GLMsingle had them, and say from where."""
        if self.events is None:
            path = folder / self.trials
            path = path if path.is_file() else self._root / self.trials
            table = read_trials(path, self._columns)
            in_time(table, path)
        else:
            pattern = self.events.replace(PARTICIPANT, participant)
            paths = _matching(self._root / pattern)
            if not paths:
                raise InputError(f"`events` in [dataset] matches no file: {self._root / pattern}.")
            path, table = paths[0], read_events(paths, self._columns)
        return path, self._with_ids(table)

    def _with_ids(self, table: pd.DataFrame) -> pd.DataFrame:
        """Name stimuli by id where trials name image files; take splits from `stimuli.tsv` where trials have none."""
        listing = self._stimuli.listed
        if self._stimuli.has_images and not table["stimulus_id"].isin(listing["stimulus_id"]).all():
            by_file = dict(zip(listing["stim_file"], listing["stimulus_id"], strict=True))
            bare = table["stimulus_id"].str.removeprefix("stimuli/")
            table = table.assign(stimulus_id=[by_file.get(one, one) for one in bare])
        if "split" not in table.columns and "split" in listing.columns:
            split = dict(zip(listing["stimulus_id"], listing["split"], strict=True))
            table = table.assign(split=[split.get(one, "") for one in table["stimulus_id"]])
        return table

    def _converted(self, path: Path) -> Path:
        """Copy a pickled file into HDF5, once, by a process of its own.

        Raises
        ------
        InputError
            Unless that is asked for; and if the file holds anything but arrays of numbers, text, lists and dicts.
        """
        if not self.convert:
            raise InputError(
                f"{path} is pickled, and a pickle may run any code: let GLMsingle write HDF5 (wanthdf5=1), or set "
                "convert = true in [dataset], which copies its arrays into HDF5 in a process of its own."
            )
        target = self._scratch / digest("GLMsingle converted", sampled_print(path))[:32] / f"{path.stem}.hdf5"
        if target.is_file():
            return target
        logger.info("%s is pickled: its arrays are copied into %s, which may be deleted afterwards.", path.name, target)
        with writing(target) as part:
            program = str(Path(__file__).with_name("_pickled.py"))
            environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
            done = run_program(
                [sys.executable, "-P", program, str(path.absolute()), str(part.absolute())],
                environment=environment,
                folder=target.parent,
            )
            if done.returncode:
                part.touch()
                why = (done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"])[-1][:200]
                raise InputError(f"{path} was not copied into HDF5: {why}; let GLMsingle write it with wanthdf5=1.")
        return target

    def stimuli(self) -> Stimuli:
        """Return the stimuli that any of the participants saw, in the order of `stimuli.tsv`."""
        return self._stimuli.stimuli(self._shown)

    @cached_property
    def _shown(self) -> pd.DataFrame:
        return self._stimuli.shown({name for one in self.participants for name in self._of(one).table["stimulus_id"]})

    def rows(self, participant: str) -> pd.DataFrame:
        """Describe the trials, in GLMsingle's order."""
        return self._of(participant).rows

    def space(self, participant: str) -> Space:
        """Say where the voxels are: in the mask, on the template, or nowhere that is known."""
        return self._of(participant).space

    def responses(self, participant: str, voxels: slice = slice(None)) -> Responses:
        """Read the trials of some voxels; the rest of the file is not read."""
        estimates = self._of(participant)
        start, stop, _ = voxels.indices(estimates.space.n_voxels)
        return responses_of_slice(estimates.read(start, stop), estimates.rows, estimates.space, voxels)

    def tables(self, participant: str) -> dict[str, pd.DataFrame]:
        """Return what GLMsingle found out about each voxel: R2 in percent, HRF from 0, ridge fraction, mean signal."""
        estimates = self._of(participant)
        return {"glmsingle": estimates.betas.table(estimates.voxels)}

    def probe(self) -> None:
        """Return nothing: no network is known to read these images."""

    def methods(self, participant: str) -> str:
        """Write where the responses are from for a methods section."""
        return (
            f"Single-trial response amplitudes were estimated by GLMsingle [@prince2022], type {self.betas} "
            f"({_glmsingle.STEMS[self.betas]}). {TUNING.format(what=CHOSEN[self.betas])}."
        )

    def background(  # type: ignore[override] # `taken` removes the key
        self, participant: str
    ) -> Path | None:
        """Return the anatomical image to draw behind the voxels, if one is given."""
        return self._of(participant).background

    def fingerprint(self, participant: str) -> str:
        """Hash the trials, samples of the estimates, what is known of the voxels, and the stimuli that were seen."""
        estimates = self._of(participant)
        shown = self._stimuli.content(self._shown, estimates.table["stimulus_id"])
        return digest(participant, self.betas, estimates.fingerprint(), shown)


def _matching(pattern: Path) -> list[Path]:
    """List the files that a pattern matches, which may lead out of the dataset's folder."""
    parts = pattern.parts
    fixed = next((i for i, part in enumerate(parts) if set(part) & set("*?[")), len(parts) - 1)
    return [path for path in sorted(Path(*parts[:fixed]).glob(str(Path(*parts[fixed:])))) if path.is_file()]


@dataclass(frozen=True, eq=False)
class Estimates:
    """The estimates of one participant, and the trials that they are of.

    Parameters
    ----------
    root, folder : Path
        Of the dataset, and of the outputs.
    betas : Betas
    table : DataFrame
        The trials, in GLMsingle's order.
    source : Path
        Where they are from.
    placement : Placement
    order : {"C", "F"}, optional
        In which voxels were taken out of the mask.
    scratch : Path
    """

    root: Path
    folder: Path
    betas: Betas
    table: pd.DataFrame
    source: Path
    placement: Placement
    order: str | None
    scratch: Path

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The trials as a dataset describes them; see `Dataset.rows`."""
        return described(self.table, self.source)

    def _inside(self, name: str) -> Path:
        """Find a file of the participant's own, or the one of all."""
        path = self.folder / name
        return path if path.exists() else self.root / name

    @cached_property
    def space(self) -> Space:
        """Where the voxels are."""
        given, betas = self.placement, self.betas
        if given.mask is not None and given.reference is not None:
            return self._volume(given.mask, given.reference)
        if not given.template:
            return Unlocated(betas.n_voxels)
        surface = Surface(given.template)
        if not betas.is_flat or surface.n_voxels != betas.n_voxels:
            raise AlignmentError(
                f"{betas.path} has {betas.grid} voxels, {given.template} has {surface.n_voxels} vertices; expected "
                "(vertices, 1, 1), left then right, or `mask` for voxels of a volume."
            )
        return surface

    def _volume(self, mask: str, reference: str) -> Volume:
        """Read the mask, and see that the betas are on its grid or were taken with it."""
        path, transform, betas = self._inside(mask), self.placement.transform or "", self.betas
        if transform and self._inside(transform).is_dir():
            transform = str(self._inside(transform))
        volume = Volume.read(path, reference=reference, template=self.placement.template or "", transform=transform)
        if betas.is_flat and volume.n_voxels != betas.n_voxels:
            raise AlignmentError(
                f"{betas.path} has {betas.n_voxels} voxels without a grid, {path} {volume.n_voxels}; expected the mask "
                "that they were taken with."
            )
        if not betas.is_flat and volume.shape != betas.grid:
            turned = " Its axes are in the opposite order." if volume.shape == betas.grid[::-1] else ""
            raise AlignmentError(
                f"{betas.path} is on a grid of {betas.grid}, {path} on one of {volume.shape}; expected the same."
                f"{turned}"
            )
        return volume

    @cached_property
    def voxels(self) -> IntArray:
        """Number each voxel of the space in the grid of the betas, in numpy's order of (x, y, z)."""
        space, betas = self.space, self.betas
        if not isinstance(space, Volume):
            return np.arange(betas.n_voxels)
        if not betas.is_flat:
            return np.flatnonzero(space.mask)
        order = self.order or ("F" if betas.is_reversed else "C")
        if self.order is None:
            sentence = "Voxels of %s were taken to be those of the mask in %s order; `order` in [dataset] says another."
            logger.info(sentence, betas.path.name, "MATLAB's" if order == "F" else "numpy's")
        numbered = np.empty(space.mask.shape, dtype=np.int64)
        if order == "C":
            numbered[space.mask] = np.arange(betas.n_voxels)
        else:
            numbered.T[space.mask.T] = np.arange(betas.n_voxels)
        return np.asarray(numbered[space.mask])

    @cached_property
    def matrix(self) -> _glmsingle.Lines | TrialBlocks:
        """The amplitudes on the disk, one column per voxel of the space."""
        matrix = self.betas.of_voxels(self.voxels, self.scratch)
        note_scale(matrix.columns(0, min(SAMPLED, matrix.shape[1])), self.betas.path.name)
        return matrix

    def read(self, start: int, stop: int) -> FloatArray:
        """Read the amplitudes of consecutive voxels, float32 (n_trials, n_voxels)."""
        return np.asarray(self.matrix.columns(start, stop), dtype=np.float32)

    @cached_property
    def background(self) -> Path | None:
        """The anatomical image to draw behind the voxels, if one is given."""
        if self.placement.background is None:
            return None
        path = self._inside(self.placement.background)
        if not (read_grid(path, expected="anatomy").values > 0).any():
            raise InputError(f"{path}, the `background`, is nowhere above 0; expected anatomy.")
        return path

    def fingerprint(self) -> str:
        """Hash the trials, samples of the betas, and where the voxels are."""
        space = self.space
        placed = [space.description, *space.digests] if isinstance(space, Volume) else [space.description]
        trials = self.table.columns.tolist(), self.table.to_numpy().tolist()
        drawn = None if self.background is None else sha256(self.background)
        betas = sampled_print(self.betas.path), self.betas.key
        return digest(betas, trials, placed, fingerprint(self.voxels), drawn)

"""The Natural Scenes Dataset, read as it lies on the disk after a download.

ROOT/nsddata/experiments/nsd/nsd_expdesign.mat            who saw which image when
ROOT/nsddata/experiments/nsd/nsd_stim_info_merged.csv     which image of COCO each is, for captions
ROOT/nsddata/ppdata/subj01/behav/responses.tsv            runs, and once more which image was shown
ROOT/nsddata/ppdata/subj01/func1pt8mm/roi/*.nii.gz        regions, and brainmask.nii.gz beside them
ROOT/nsddata/freesurfer/{subj01,fsaverage}/label/         regions on surfaces, and the names of all
ROOT/nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR/betas_session01.hdf5, ...
ROOT/nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5         the images
ROOT/nsddata_stimuli/stimuli/nsd/annotations/             captions_train2017.json, captions_val2017.json of COCO

Only what a study needs must be there: of a participant the sessions that were downloaded, of the regions those named.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
import pandas as pd
from annotated_types import Interval, Len
from numpy.typing import NDArray

from latentcortex import _surfaces
from latentcortex._arrays import FloatArray, IntArray, digest, listed
from latentcortex._nifti import read_grid
from latentcortex._ranges import AnyNames, Distinct, Matching, NoEffect
from latentcortex.datasets import _mgh, _nsd_regions, _nsd_stimuli, check_participants, responses_of_slice
from latentcortex.datasets._nsd_atlas import write_atlas
from latentcortex.datasets._nsd_betas import Betas, Survey
from latentcortex.datasets._nsd_design import Design
from latentcortex.datasets._nsd_release import SIDES, TRIALS, Release, Session, SpaceName, Version
from latentcortex.datasets._sampling import sampled_print
from latentcortex.datasets._voxel_major import default_scratch
from latentcortex.errors import AlignmentError, InputError
from latentcortex.responses import Responses
from latentcortex.space import Space, Surface, Volume
from latentcortex.stimuli import Stimuli

logger = logging.getLogger(__name__)

Participants = Annotated[tuple[Annotated[str, Matching(r"0[1-8]", "a number from 01 to 08")], ...], Len(1), Distinct()]
ESTIMATES: Final = {
    "b1": "with an assumed haemodynamic response function (`betas_assumehrf`)",
    "b2": "with a fitted haemodynamic response function (`betas_fithrf`)",
    "b3": "with a fitted haemodynamic response function, denoised and with ridge regression "
    "(`betas_fithrf_GLMdenoise_RR`)",
}


@dataclass(frozen=True)
class Preset:
    """What a published analysis of the data took.

    Parameters
    ----------
    roi : str
    n_sessions : tuple of int
        The first so many sessions of each of the eight participants.
    """

    roi: str
    n_sessions: tuple[int, ...]


PRESETS: Final = {
    "nsd1000": Preset("nsdgeneral", (40, 40, 32, 30, 40, 32, 40, 30)),
    "takagi2023": Preset("streams", (37, 37, 29, 27, 37, 29, 37, 27)),
}


@dataclass(frozen=True, eq=False)
class _Voxels:
    """Which voxels of a participant are read.

    Parameters
    ----------
    space : Volume or Surface
    shape : tuple of int
        Of the grid, or vertices of each hemisphere.
    places : ndarray of int, shape (n_voxels, 3) or (n_voxels,)
    """

    space: Volume | Surface
    shape: tuple[int, ...]
    places: IntArray


class NSD:
    """Single-trial responses to natural scenes of eight participants at 7 T (Allen et al., 2022).

    The test set are the images that all participants would see, of which each has up to three trials; all others are
    for training. In a session in which a voxel left the field of view it is nan, and keeps its other sessions: an image
    has the mean of the trials that were measured. The table `nsd` beside the maps counts for each voxel such sessions,
    the images that are left without a trial, and amplitudes that int16 cuts off; it has the authors' noise ceilings.
    `atlas` in [report] may name the file of an ROI.

    Parameters
    ----------
    root : str
        The folder that holds `nsddata`, `nsddata_betas` and `nsddata_stimuli`.
    participants : sequence of str
        `01` to `08`.
    space : {"func1pt8mm", "func1mm", "fsaverage", "nativesurface"}
        In which the responses were prepared: two resolutions of the functional volumes, which are not registered to
        anatomy; the template; or the participants' own surfaces, which need `nsddata/freesurfer/subjAA/surf`.
    betas : {"b1", "b2", "b3"}
        Version of the amplitudes: `betas_assumehrf`, `betas_fithrf` or `betas_fithrf_GLMdenoise_RR`.
    preset : {"nsd1000", "takagi2023"}
        `nsd1000`: all sessions, voxels of `nsdgeneral`. `takagi2023`: the first 37 sessions (29 of 03 and 06, 27 of 04
        and 08), voxels of `streams`; of those with 37, 982 of the shared images were shown by then, in 2,770 trials.
    rois : sequence of str
        In place of the preset's: files of regions whose voxels are used, such as `nsdgeneral`, `streams`,
        `prf-visualrois`, `floc-faces` or `HCP_MMP1`, or one of their regions, such as `streams/ventral`; `all` is the
        brain mask, or all vertices.
    n_sessions : int
        In place of the preset's: the first so many sessions. 0 is the preset's. Sessions that were not downloaded are
        left out.
    scratch : str, optional
        Where copies by voxel of sessions that are NIfTI or .mgh are kept, 4 bytes for each trial and voxel, and counts
        of what is not valid; it may be deleted and is then made again. By default within the user's cache.

    Raises
    ------
    InputError
        If the folder is missing, or does not hold `nsddata`.
    """

    def __init__(
        self,
        root: str,
        participants: Participants = ("01",),
        space: SpaceName = "func1pt8mm",
        betas: Version = "b3",
        *,
        preset: Literal["nsd1000", "takagi2023"] = "nsd1000",
        rois: AnyNames = (),
        n_sessions: Annotated[int, Interval(ge=0, le=40)] = 0,
        scratch: Annotated[str, NoEffect] | None = None,
    ) -> None:
        self.release = Release(Path(root), space, betas)
        self.participants = check_participants(participants)
        self.rois = tuple(rois) or (PRESETS[preset].roi,)
        self.preset, self.n_sessions = preset, n_sessions
        self.scratch = Path(scratch) if scratch else default_scratch()
        self.design = Design(self.release)
        self._sessions: dict[str, tuple[Session, ...]] = {}
        self._rows: dict[str, pd.DataFrame] = {}
        self._voxels: dict[str, _Voxels] = {}

    def _check(self, participant: str) -> None:
        if participant not in self.participants:
            raise InputError(f"No participant {participant!r}; there is {listed(map(repr, self.participants))}.")

    def sessions(self, participant: str) -> tuple[Session, ...]:
        """List the sessions that are used: those of the preset that are on the disk."""
        self._check(participant)
        if participant not in self._sessions:
            most = self.n_sessions or PRESETS[self.preset].n_sessions[int(participant) - 1]
            self._sessions[participant] = self.release.sessions(participant, most)
        return self._sessions[participant]

    def _trials(self, participant: str) -> pd.DataFrame:
        if participant not in self._rows:
            self._rows[participant] = self.design.rows(participant, self.sessions(participant))
        return self._rows[participant]

    def rows(self, participant: str) -> pd.DataFrame:
        """Describe the trials: 750 of each session, in the order in which they were shown."""
        trials = self._trials(participant)
        split = np.where(trials["shared"], "test", "train")
        return trials[["stimulus", "session", "run", "n_repeats"]].assign(split=split)

    @cached_property
    def _stimuli(self) -> Stimuli:
        shown = {int(k) for one in self.participants for k in self._trials(one)["image"]}
        return _nsd_stimuli.stimuli(self.design, sorted(shown))

    def stimuli(self) -> Stimuli:
        """Return the images that any of the participants saw, in the order of their file."""
        return self._stimuli

    # Voxels

    def space(self, participant: str) -> Space:
        """Say where the voxels of the ROI are: on the grid of the functional volumes, or on a surface."""
        return self._placed(participant).space

    def _placed(self, participant: str) -> _Voxels:
        self._check(participant)
        if participant not in self._voxels:
            find = self._in_volume if self.release.is_volume else self._on_surface
            self._voxels[participant] = find(participant)
        return self._voxels[participant]

    def _in_volume(self, participant: str) -> _Voxels:
        masks = [_nsd_regions.in_volume(self.release, participant, name) for name in self.rois]
        (mask, affine), *others = masks
        for name, (other, its_affine) in zip(self.rois[1:], others, strict=True):
            if other.shape != mask.shape or not np.allclose(affine, its_affine):
                raise AlignmentError(f"ROIs {self.rois[0]} and {name} of subj{participant} are on different grids.")
            mask = mask | other
        volume = Volume(mask, affine, self.release.space)
        return _Voxels(volume, volume.shape, volume.indices)

    def _on_surface(self, participant: str) -> _Voxels:
        template = _nsd_regions.template(self.release, participant)
        sizes = _surfaces.n_vertices(template)
        masks = [_nsd_regions.on_surface(self.release, participant, name, sizes) for name in self.rois]
        vertices = np.flatnonzero(np.logical_or.reduce(masks))
        return _Voxels(Surface(template, vertices), sizes, vertices)

    def atlas_folder(self, participant: str, name: str) -> Path | None:
        """Write all regions of an ROI as a folder that an atlas is read from; None if there is no such ROI."""
        release, voxels = self.release, self._placed(participant)
        if not name or name == _nsd_regions.ALL or not _nsd_regions.has(release, participant, name):
            return None
        if isinstance(voxels.space, Volume):
            regions = _nsd_regions.of_volume(release, participant, name)
        else:
            regions = _nsd_regions.of_vertices(release, participant, name, (voxels.shape[0], voxels.shape[1]))
        return write_atlas(regions, name, voxels.space, voxels.shape[0], self.scratch)

    def _betas(self, participant: str) -> Betas:
        voxels = self._placed(participant)
        return Betas(self.sessions(participant), voxels.shape, voxels.places, self.scratch)

    def responses(self, participant: str, voxels: slice = slice(None)) -> Responses:
        """Read the trials of some voxels, in percent signal change; nan in sessions in which one is not valid."""
        space = self.space(participant)
        start, stop, _ = voxels.indices(space.n_voxels)
        return responses_of_slice(self._betas(participant).read(start, stop), self._trials(participant), space, voxels)

    def survey(self, participant: str) -> Survey:
        """Count, in one pass over all amplitudes, sessions that are not valid and amplitudes that int16 cut off."""
        survey = self._betas(participant).survey()
        n_sessions, n_voxels = survey.invalid.shape
        everywhere, anywhere = survey.invalid.all(axis=0), survey.invalid.any(axis=0)
        if anywhere.any():
            facts = {"n_voxels": int(anywhere.sum()), "n_everywhere": int(everywhere.sum())}
            said = "%d of %d voxels of subj%s are not valid in some of %d sessions (0 or nan throughout), %d in all."
            logger.info(
                said, anywhere.sum(), n_voxels, participant, n_sessions, everywhere.sum(), extra={"facts": facts}
            )
        n_beyond = int((survey.saturated > 0).sum())
        if n_beyond:
            said = (
                "%d amplitudes of %d voxels of subj%s are beyond the 109 percent that int16 x 300 holds, and cut off."
            )
            logger.info(said, int(survey.saturated.sum()), n_beyond, participant)
        return survey

    def tables(self, participant: str) -> dict[str, pd.DataFrame]:
        """Return what the release says of each voxel: the authors' noise ceiling, sessions that are not valid."""
        space, survey = self.space(participant), self.survey(participant)
        table = space.rows.to_frame(index=False)
        table["n_sessions"] = len(self.sessions(participant))
        table["n_invalid_sessions"] = survey.invalid.sum(axis=0)
        table["n_images_without_trial"] = self._images_without_trial(participant, survey)
        table["n_saturated"] = survey.saturated
        for name in ("ncsnr", "ncsnr_split1", "ncsnr_split2"):
            given = self._of_authors(participant, name)
            if given is not None:
                table[name] = given
        if "ncsnr" in table:
            for n_trials in (1, 3):
                signal = table["ncsnr"] ** 2
                table[f"noise_ceiling_{n_trials}"] = signal / (signal + 1 / n_trials)
        return {"nsd": table}

    def _images_without_trial(self, participant: str, survey: Survey) -> IntArray:
        """Count the images whose trials all lie in sessions in which a voxel is not valid, (n_voxels,)."""
        trials = self._trials(participant)
        images = pd.factorize(trials["image"])[0]
        session = np.repeat(np.arange(len(survey.invalid)), TRIALS)
        patterns, of_voxel = np.unique(survey.invalid, axis=1, return_inverse=True)
        n_images = int(images.max()) + 1
        counts = [n_images - len(np.unique(images[~invalid[session]])) for invalid in patterns.T]
        return np.array(counts, dtype=np.intp)[of_voxel.ravel()]

    def _of_authors(self, participant: str, name: str) -> FloatArray | None:
        """Read a map that the authors computed from all sessions, if it was downloaded, (n_voxels,)."""
        folder, voxels = self.release.betas(participant), self._placed(participant)
        if self.release.is_volume:
            path = folder / f"{name}.nii.gz"
            if not path.is_file():
                return None
            grid = read_grid(path, expected=f"the authors' {name}")
            if grid.values.shape != voxels.shape:
                raise AlignmentError(f"{path} is {grid.values.shape}; expected {voxels.shape}, the grid of the ROI.")
            return np.asarray(voxels.space.take(grid.values), dtype=np.float64)
        paths = [folder / f"{side}.{name}.mgh" for side in SIDES]
        if not all(path.is_file() for path in paths):
            return None
        sides: list[NDArray[Any]] = [
            _mgh.values(path, n, expected=f"the authors' {name}") for path, n in zip(paths, voxels.shape, strict=True)
        ]
        return np.asarray(voxels.space.take(np.concatenate(sides)), dtype=np.float64)

    def probe(self) -> None:
        """Return nothing: no network is known to read these images."""

    def methods(self, participant: str) -> str:
        """Write where the responses are from for a methods section."""
        sessions, trials = self.sessions(participant), self._trials(participant)
        survey, n_shared = self.survey(participant), trials.loc[trials["shared"], "stimulus"].nunique()
        partly = np.asarray(survey.invalid.any(axis=0) & ~survey.invalid.all(axis=0))
        taken = ", as in [@takagi2023]" if self.preset == "takagi2023" and not self.n_sessions else ""
        where = f"voxels of {' and '.join(self.rois)}" if self.rois != (_nsd_regions.ALL,) else "all voxels"
        after = (
            f" In some sessions {int(partly.sum()):,} of the {len(partly):,} voxels were outside the field of view, "
            "and these trials were left out; images without any other trial were given the mean of the voxel."
            if partly.any()
            else ""
        )
        return (
            f"Responses are those of participant subj{participant} of the Natural Scenes Dataset [@allen2022]: "
            f"single-trial amplitudes in {self.release.space}, estimated {ESTIMATES[self.release.version]}, of "
            f"{len(trials):,} trials in {len(sessions)} sessions, and of {where}. The {n_shared:,} images that all "
            f"participants were to see are the test set{taken}.{after}"
        )

    def fingerprint(self, participant: str) -> str:
        """Hash the design, samples of each file of responses, which voxels are read, and samples of the images."""
        betas, space = self._betas(participant), self.space(participant)
        rows = self._trials(participant)
        table = self._stimuli.table.loc[sorted(set(rows["stimulus"]))]
        images = sampled_print(self.release.stimuli / _nsd_stimuli.IMAGES)
        shown = table.columns.tolist(), table.index.tolist(), table.to_numpy().tolist(), images
        return digest(participant, rows.to_numpy().tolist(), betas.prints, space.description, shown)

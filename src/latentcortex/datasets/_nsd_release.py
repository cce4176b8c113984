"""Where the files of the Natural Scenes Dataset lie after a download, and which sessions are there.

nsddata/experiments/nsd/         nsd_expdesign.mat, nsd_stim_info_merged.csv
nsddata/ppdata/subjAA/           behav/responses.tsv, SPACE/brainmask.nii.gz, SPACE/roi/, transforms/
nsddata/freesurfer/              fsaverage/, subjAA/: label/lh.NAME.mgz, label/NAME.mgz.ctab, surf/
nsddata_betas/ppdata/subjAA/     SPACE/VERSION/betas_sessionBB.hdf5, ncsnr.nii.gz
nsddata_stimuli/stimuli/nsd/     nsd_stimuli.hdf5, annotations/captions_train2017.json
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from latentcortex._arrays import listed
from latentcortex.errors import InputError

logger = logging.getLogger(__name__)

SpaceName = Literal["func1pt8mm", "func1mm", "fsaverage", "nativesurface"]
Version = Literal["b1", "b2", "b3"]

VOLUMES: Final = ("func1pt8mm", "func1mm")
VERSIONS: Final = {"b1": "betas_assumehrf", "b2": "betas_fithrf", "b3": "betas_fithrf_GLMdenoise_RR"}
"""Version of the amplitudes -> what the release calls its folder."""
SESSIONS: Final = (40, 40, 32, 30, 40, 32, 40, 30)
"""Sessions that each of the eight participants came to."""
TRIALS: Final = 750
"""Of a session, blank ones left out."""
SIDES: Final = ("lh", "rh")


@dataclass(frozen=True)
class Session:
    """The files of one session.

    Parameters
    ----------
    number : int
        From 1.
    paths : tuple of Path
        One of a volume, or those of the left and right hemisphere.
    """

    number: int
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class Release:
    """A folder with what was downloaded of the release.

    Parameters
    ----------
    root : Path
        That holds `nsddata`, `nsddata_betas` and `nsddata_stimuli`.
    space : str
    version : str
        b1, b2 or b3.

    Raises
    ------
    InputError
        If there is no such folder.
    """

    root: Path
    space: SpaceName
    version: Version

    def __post_init__(self) -> None:
        if not self.root.is_dir():
            raise InputError(f"Dataset folder {self.root} is not there; check `root`.")
        if not (self.root / "nsddata").is_dir():
            raise InputError(
                f"{self.root} has no folder nsddata; expected the folder that holds nsddata, nsddata_betas and "
                "nsddata_stimuli, as they are downloaded from the bucket natural-scenes-dataset."
            )

    @property
    def is_volume(self) -> bool:
        """Whether voxels are those of a volume, and not vertices."""
        return self.space in VOLUMES

    @property
    def experiment(self) -> Path:
        """The folder of the design."""
        return self.root / "nsddata" / "experiments" / "nsd"

    @property
    def stimuli(self) -> Path:
        """The folder of images and captions."""
        return self.root / "nsddata_stimuli" / "stimuli" / "nsd"

    def about(self, participant: str) -> Path:
        """Return the folder of what is known of a participant."""
        return self.root / "nsddata" / "ppdata" / f"subj{participant}"

    def freesurfer(self, participant: str) -> Path:
        """Return the folder of a participant's own surfaces and labels; `fsaverage` is one, too."""
        name = participant if participant == "fsaverage" else f"subj{participant}"
        return self.root / "nsddata" / "freesurfer" / name

    def betas(self, participant: str) -> Path:
        """Return the folder of the amplitudes."""
        return self.root / "nsddata_betas" / "ppdata" / f"subj{participant}" / self.space / VERSIONS[self.version]

    def sessions(self, participant: str, most: int) -> tuple[Session, ...]:
        """List the sessions that are on the disk, up to a number; say which are not.

        Of a session that is there in two formats HDF5 is taken, of which some voxels are read without the others.

        Raises
        ------
        InputError
            If none is there, or one hemisphere of one.
        """
        folder, ends = self.betas(participant), ("hdf5", "nii.gz", "nii") if self.is_volume else ("hdf5", "mgh", "mgz")
        side = "" if self.is_volume else "lh."
        pattern = re.compile(rf"{re.escape(side)}betas_session(\d\d)\.({'|'.join(map(re.escape, ends))})")
        present = [path.name for path in folder.glob(f"{side}betas_session*") if path.is_file()]  # no link to nothing
        named = [match for name in present if (match := pattern.fullmatch(name))]
        by_format = {(int(match[1]), ends.index(match[2])): match[0] for match in named}
        first = {number: name for (number, _), name in sorted(by_format.items(), reverse=True)}
        found = {number: first[number] for number in sorted(first) if 1 <= number <= most}
        if not found:
            there = ", which is not there," if not folder.is_dir() else ""
            raise InputError(
                f"{folder}{there} holds no {side}betas_session01.{ends[0]} or .{ends[1]}, nor any later session of "
                f"subj{participant}; download them, or set `space` or `betas` in [dataset]."
            )
        sessions = tuple(Session(number, self._files(folder, name)) for number, name in found.items())
        self._name_absent(participant, tuple(found), most)
        return sessions

    def _files(self, folder: Path, name: str) -> tuple[Path, ...]:
        if self.is_volume:
            return (folder / name,)
        paths = tuple(folder / f"{side}{name[2:]}" for side in SIDES)
        missing = [path for path in paths if not path.exists()]
        if missing:
            raise InputError(f"{missing[0]} is missing beside {name}; download both hemispheres of each session.")
        return paths

    def _name_absent(self, participant: str, present: Sequence[int], most: int) -> None:
        expected = min(SESSIONS[int(participant) - 1], most)
        absent = [number for number in range(1, expected + 1) if number not in present]
        if absent:
            said = "%d of the first %d sessions of subj%s are not on the disk and are left out: %s."
            facts = {"n_sessions": len(present), "absent": absent}
            logger.info(said, len(absent), expected, participant, in_stretches(absent), extra={"facts": facts})


def in_stretches(numbers: Sequence[int]) -> str:
    """Name ascending numbers, those that follow each other by the first and the last.

    Examples
    --------
    >>> in_stretches([2, 4, 5, 6])
    '2, 4 to 6'
    """
    stretches: list[list[int]] = []
    for number in numbers:
        if stretches and number == stretches[-1][-1] + 1:
            stretches[-1].append(number)
        else:
            stretches.append([number])
    return listed((f"{one[0]} to {one[-1]}" if len(one) > 1 else str(one[0]) for one in stretches), 40)

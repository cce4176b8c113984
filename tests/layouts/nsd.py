"""The Natural Scenes Dataset as its release lays it out, with few voxels and small images of noise round a grey.

The grey of an image is a number that its neighbours do not have, and every voxel's amplitude is that of the image that
was shown, and of where the voxel is. So a stimulus id that is one off, a session in the place of another, or axes that
are turned give another number, and none of them another shape.

    h5py (n_trials, z, y, x), int16, chunks (n_trials, 1, 1, 1), percent signal change x 300; 0 where nothing was valid
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
from scipy.io import savemat

N_IMAGES, N_SHOWN, N_SHARED, N_SESSIONS, TRIALS = 73_000, 10_000, 1_000, 40, 750
RUNS = (63, 62) * 6
"""Trials of the runs of a session."""
BETAS = {"b1": "betas_assumehrf", "b2": "betas_fithrf", "b3": "betas_fithrf_GLMdenoise_RR"}
SIZES = {"func1pt8mm": 1.8, "func1mm": 1.0}
FSAVERAGE = 163_842
STREAMS = {1: "early", 2: "midventral", 3: "midlateral", 4: "midparietal", 5: "ventral", 6: "lateral", 7: "parietal"}
PRF = {1: "V1v", 2: "V1d", 3: "V2v", 4: "V2d", 5: "V3v", 6: "V3d", 7: "hV4"}
"""As the manual lists them."""
SATURATED = 32767


def grey(image: int) -> int:
    """Give the mean grey of an image (its row of imgBrick, from 0), 60 to 195."""
    return 60 + (image * 7919 + 13) * 104_729 % 136


@dataclass(eq=False)
class NSD:
    """Where a release was written, and what was planted in it.

    Parameters
    ----------
    root : Path
    participants : sequence of str
    shape : (x, y, z)
        Of the volume of every participant.
    sessions : sequence of int
        Those that are on the disk.
    seed : int
    """

    root: Path
    participants: Sequence[str] = ("01",)
    shape: tuple[int, int, int] = (4, 5, 3)
    sessions: Sequence[int] = (1, 2, 3)
    seed: int = 0
    outside: tuple[int, int, int] = (0, 0, 0)
    """Not in the brain mask: 0 in all trials."""
    partly: tuple[int, int, int] = (1, 2, 1)
    """Left the field of view in session 2: 0 there."""
    bright: tuple[int, int, int] = (2, 3, 2)
    """Saturates where the grey is above 180."""
    written: list[Path] = field(default_factory=list)

    # Design

    @cached_property
    def masterordering(self) -> np.ndarray:
        """10k id (from 1) of each of 30,000 trials: every image three times."""
        rng = np.random.default_rng(self.seed)
        return rng.permutation(np.repeat(np.arange(1, N_SHOWN + 1), 3))

    @cached_property
    def subjectim(self) -> np.ndarray:
        """73k id (from 1) of each participant's 10k ids, (8, 10000): the first thousand are everybody's."""
        ids = np.random.default_rng(self.seed + 1).permutation(N_IMAGES) + 1
        shared, own = np.sort(ids[:N_SHARED]), ids[N_SHARED:].reshape(8, -1)
        return np.concatenate([np.tile(shared, (8, 1)), own], axis=1)

    def images(self, participant: str, session: int) -> np.ndarray:
        """Rows of imgBrick (from 0) that were shown in a session, trial by trial."""
        order = self.masterordering[(session - 1) * TRIALS : session * TRIALS]
        return self.subjectim[int(participant) - 1, order - 1] - 1

    def gain(self) -> np.ndarray:
        """By how much each voxel's amplitude grows with the grey, (x, y, z)."""
        x, y, z = np.indices(self.shape)
        return 20 + x + 7 * y + 31 * z

    def stored_at(self, place: tuple[int, int, int], participant: str, session: int) -> np.ndarray:
        """Amplitudes of one voxel as they are stored, but for what is not valid, int16 (750,)."""
        greys = grey(self.images(participant, session)).astype(np.int32)
        x, y, z = place
        return ((greys - 128) * (20 + (x + 7 * y + 31 * z) % 200) + session * 40).astype(np.int16)

    def stored(self, participant: str, session: int) -> np.ndarray:
        """Amplitudes as they are stored, int16 (x, y, z, 750)."""
        greys = grey(self.images(participant, session)).astype(np.int32)
        values = (greys - 128) * self.gain()[..., None] + session * 40
        values[self.bright] = np.where(greys > 180, SATURATED, values[self.bright])
        values[self.outside] = 0
        if session == 2:
            values[self.partly] = 0
        return values.astype(np.int16)

    def percent(self, participant: str, session: int) -> np.ndarray:
        """Percent signal change as it is meant, (x, y, z, 750); nan where nothing was valid."""
        stored = self.stored(participant, session).astype(np.float32)
        stored[~stored.any(3)] = np.nan
        return stored / np.float32(300)

    # Files

    def file(self, *parts: str) -> Path:
        """Name a file of the release, and make its folder."""
        path = self.root.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def subject(self, participant: str) -> str:
        return f"subj{participant}"

    def betas(self, participant: str, space: str = "func1pt8mm", version: str = "b3") -> Path:
        """Name the folder of the amplitudes."""
        return self.file("nsddata_betas", "ppdata", self.subject(participant), space, BETAS[version], "x").parent

    def write_experiment(self) -> None:
        """Write the design, the table of the images, and who answered what when."""
        pattern = np.zeros((N_SESSIONS, 12, 75))
        for run, n in enumerate(RUNS):
            pattern[:, run, 1 : 1 + n] = 1
        design = {
            "masterordering": self.masterordering[None].astype(np.float64),
            "basiccnt": np.zeros((3, 40)),
            "sharedix": self.subjectim[0, :N_SHARED][None].astype(np.float64),
            "stimpattern": pattern,
            "subjectim": self.subjectim.astype(np.float64),
        }
        savemat(self.file("nsddata", "experiments", "nsd", "nsd_expdesign.mat"), design, do_compression=True)
        self.write_images_table()
        for participant in self.participants:
            self.write_behaviour(participant, max(self.sessions))

    @cached_property
    def coco(self) -> list[tuple[int, str]]:
        """Id and split of the COCO image that each image is a crop of; images before and after have other ids."""
        ids = np.random.default_rng(self.seed + 2).permutation(580_000)[:N_IMAGES] + 1
        return [(int(one), "val2017" if k % 15 == 7 else "train2017") for k, one in enumerate(ids)]

    def write_images_table(self) -> None:
        """Write nsd_stim_info_merged.csv: one row per image, nsdId from 0, trials of repeats from 1."""
        shown = [f"subject{s}" for s in range(1, 9)]
        repeats = [f"subject{s}_rep{k}" for s in range(1, 9) for k in range(3)]
        head = ["", "cocoId", "cocoSplit", "cropBox", "loss", "nsdId", "flagged", "BOLD5000", "shared1000"]
        order = np.argsort(self.masterordering, kind="stable").reshape(N_SHOWN, 3) + 1
        of_image = {int(image) - 1: k for k, image in enumerate(self.subjectim[0, :N_SHARED])}
        owner = {
            int(image) - 1: (s, k + N_SHARED) for s in range(8) for k, image in enumerate(self.subjectim[s, N_SHARED:])
        }
        lines = [",".join([*head, *shown, *repeats])]
        for image, (coco, split) in enumerate(self.coco):
            if image in of_image:
                three = ",".join(map(str, order[of_image[image]]))
                tail = ",".join(["1"] * 8 + [three] * 8)
            else:
                s, k = owner[image]
                three = ",".join(map(str, order[k]))
                tail = ",".join(
                    ["1" if i == s else "0" for i in range(8)] + [three if i == s else "0,0,0" for i in range(8)]
                )
            box = '"(0.0, 0.0, 0.16666666666666669, 0.16666666666666669)"'
            lines.append(f"{image},{coco},{split},{box},0.1,{image},False,False,{image in of_image},{tail}")
        self.file("nsddata", "experiments", "nsd", "nsd_stim_info_merged.csv").write_text("\n".join(lines) + "\n")

    def write_behaviour(self, participant: str, n_sessions: int = N_SESSIONS) -> None:
        """Write responses.tsv: a row per trial, blanks left out, ids from 1, nan where nothing was pressed."""
        head = "SUBJECT SESSION RUN TRIAL 73KID 10KID TIME ISOLD ISCORRECT RT CHANGEMIND MEMORYRECENT MEMORYFIRST "
        head += "ISOLDCURRENT ISCORRECTCURRENT TOTAL1 TOTAL2 BUTTON MISSINGDATA"
        lines, k = [head.replace(" ", "\t")], 0
        for session in range(1, n_sessions + 1):
            for run, n in enumerate(RUNS, start=1):
                for trial in range(1, n + 1):
                    small = int(self.masterordering[k])
                    large = int(self.subjectim[int(participant) - 1, small - 1])
                    lines.append(f"{int(participant)}\t{session}\t{run}\t{trial}\t{large}\t{small}" + "\tNaN" * 13)
                    k += 1
        self.file("nsddata", "ppdata", self.subject(participant), "behav", "responses.tsv").write_text("\n".join(lines))

    def write_images(self, size: int = 4) -> None:
        """Write imgBrick, (73000, size, size, 3): noise whose lower half takes off what its upper half puts on."""
        greys = grey(np.arange(N_IMAGES)).astype(np.int16)[:, None, None, None]
        noise = np.random.default_rng(self.seed).integers(-60, 61, (N_IMAGES, size // 2, size, 3), dtype=np.int16)
        brick = np.concatenate([greys + noise, greys - noise], axis=1).astype(np.uint8)
        with h5py.File(self.file("nsddata_stimuli", "stimuli", "nsd", "nsd_stimuli.hdf5"), "w") as file:
            file.create_dataset("imgBrick", data=brick)

    def write_captions(self, n_sessions: int = 3) -> None:
        """Write five captions of each image that was shown in the first sessions, six of each hundredth."""
        shown = {int(k) for one in self.participants for s in range(1, n_sessions + 1) for k in self.images(one, s)}
        of_split: dict[str, list[dict[str, object]]] = {"train2017": [], "val2017": []}
        for image in sorted(shown):
            coco, split = self.coco[image]
            for k in range(6 if image % 100 == 0 else 5):
                of_split[split].append(
                    {"image_id": coco, "id": len(of_split[split]), "caption": f"grey {grey(image)}, {k}"}
                )
        for split, spoken in of_split.items():
            path = self.file("nsddata_stimuli", "stimuli", "nsd", "annotations", f"captions_{split}.json")
            path.write_text(json.dumps({"info": {}, "images": [], "annotations": spoken}))

    def write_volume(self, path: Path, values: np.ndarray, space: str = "func1pt8mm") -> None:
        """Write a volume as the release's tools do: an sform only, the origin in the middle."""
        size = SIZES[space]
        affine = np.diag([size, size, size, 1.0])
        affine[:3, 3] = [-(n - 1) / 2 * size for n in self.shape]
        image = nib.Nifti1Image(values, None)
        image.set_qform(None, code=0)
        image.set_sform(affine, code=1)
        image.header.set_zooms((size, size, size, 4 / 3)[: values.ndim])
        content = image.to_bytes()
        path.write_bytes(gzip.compress(content, 1, mtime=0) if path.suffix == ".gz" else content)

    def label_volume(self, name: str) -> dict[str, np.ndarray]:
        """Make the labels of the left, the right and both hemispheres, (x, y, z): -1 is not cortex, 0 no region."""
        x, y, z = np.indices(self.shape)
        n = {"nsdgeneral": 1, "streams": 7, "prf-visualrois": 7}[name]
        labels = (x + 2 * y + 3 * z) % (n + 1)
        middle = self.shape[0] // 2
        left, right = (np.where(side & (y > 0), labels, -1) for side in (x < middle, x >= middle))
        both = np.where(left >= 0, left, right)
        return {"lh.": left, "rh.": right, "": both}

    def write_regions(self, participant: str, space: str = "func1pt8mm") -> None:
        """Write volumes of labels and the tables of their names."""
        subject = self.subject(participant)
        for name, regions in (("nsdgeneral", {1: "nsdgeneral"}), ("streams", STREAMS), ("prf-visualrois", PRF)):
            for side, labels in self.label_volume(name).items():
                path = self.file("nsddata", "ppdata", subject, space, "roi", f"{side}{name}.nii.gz")
                self.write_volume(path, labels.astype(np.int16), space)
            self.write_ctab(subject, name, regions)
        mask = np.ones(self.shape, dtype=np.int16)
        mask[self.outside] = 0
        self.write_volume(self.file("nsddata", "ppdata", subject, space, "brainmask.nii.gz"), mask, space)

    def write_ctab(self, subject: str, name: str, regions: dict[int, str]) -> None:
        """Write the names of labels, `index name` in each line."""
        lines = ["0 Unknown", *(f"{k} {region}" for k, region in regions.items())]
        self.file("nsddata", "freesurfer", subject, "label", f"{name}.mgz.ctab").write_text("\n".join(lines) + "\n")

    def write_ncsnr(self, participant: str, space: str = "func1pt8mm", version: str = "b3") -> np.ndarray:
        """Write the authors' ratio of signal to noise, and return it, (x, y, z)."""
        ncsnr = np.random.default_rng(5).random(self.shape).astype(np.float32)
        for suffix in ("", "_split1", "_split2"):
            self.write_volume(self.betas(participant, space, version) / f"ncsnr{suffix}.nii.gz", ncsnr, space)
        return ncsnr

    def write_sessions(
        self, participant: str, *, form: str = "hdf5", space: str = "func1pt8mm", version: str = "b3"
    ) -> None:
        """Write the sessions' amplitudes in volumes, as HDF5 or NIfTI."""
        folder = self.betas(participant, space, version)
        for session in self.sessions:
            values = self.stored(participant, session)
            if form == "hdf5":
                write_hdf5(folder / f"betas_session{session:02d}.hdf5", values)
            else:
                self.write_volume(folder / f"betas_session{session:02d}.nii.gz", values, space)

    def write(self) -> NSD:
        """Write all that a study of func1pt8mm needs."""
        self.write_experiment()
        self.write_images()
        self.write_captions(max(self.sessions))
        for participant in self.participants:
            self.write_regions(participant)
            self.write_sessions(participant)
            self.write_ncsnr(participant)
        return self


def write_hdf5(path: Path, values: np.ndarray) -> None:
    """Write int16 amplitudes (..., n_trials) as MATLAB did: axes reversed, a chunk for each voxel, not packed."""
    n_trials, places = values.shape[-1], values.shape[:-1]
    with h5py.File(path, "w", libver=("earliest", "latest")) as file:
        made = file.create_dataset(
            "betas", shape=(n_trials, *reversed(places)), dtype="<i2", chunks=(n_trials, *(1,) * len(places))
        )
        for place in np.ndindex(*reversed(places)):
            column = np.ascontiguousarray(values[place[::-1]], dtype="<i2")
            made.id.write_direct_chunk((0, *place), column.tobytes())


def write_mgh(path: Path, n_vertices: int, vertices: np.ndarray, values: np.ndarray) -> None:
    """Write float32 values (n_vertices, n_trials) of some vertices as .mgh; the others are 0, in holes of the file."""
    n_trials = values.shape[1]
    header = np.zeros(284, dtype=np.uint8)
    header[:28] = np.array([1, n_vertices, 1, 1, n_trials, 3, 0], dtype=">i4").view(np.uint8)
    with path.open("wb") as file:
        file.write(header.tobytes())
        file.truncate(284 + 4 * n_vertices * n_trials)
    table = np.memmap(path, dtype=">f4", mode="r+", offset=284, shape=(n_trials, n_vertices))
    table[:, vertices] = values.T
    table.flush()


def replaced(path: Path) -> Path:
    """Make a link a file of its own."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    return path

"""Responses, trials and stimuli of a folder in the kinds of files that people have."""

from __future__ import annotations

from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from latentcortex import cli
from latentcortex.datasets.folder import Folder
from latentcortex.errors import AlignmentError, InputError
from latentcortex.extraction import extract
from latentcortex.extractors import make
from latentcortex.study import Study

IDS = ("a", "b", "c", "d")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a folder of four stimuli, shown twice, with responses of five voxels that are still to be written."""
    folder = tmp_path / "data"
    (folder / "stimuli").mkdir(parents=True)
    for number, name in enumerate(IDS):
        Image.new("RGB", (8, 8), (20 * number,) * 3).save(folder / "stimuli" / f"{name}.png")
    listing = pd.DataFrame({"stimulus_id": IDS, "stim_file": [f"{name}.png" for name in IDS]})
    listing.to_csv(folder / "stimuli.tsv", sep="\t", index=False)
    trials = pd.DataFrame({"stimulus_id": IDS * 2, "session": "1", "run": ["1"] * 4 + ["2"] * 4})
    trials.to_csv(folder / "trials.tsv", sep="\t", index=False)
    return folder


RESPONSES = np.random.default_rng(0).standard_normal((8, 5)).astype(np.float32)


@pytest.mark.parametrize("chunks", [None, (3, 2)])
@pytest.mark.parametrize("named", ["betas.h5", "betas.h5:group/betas"])
def test_responses_are_read_from_hdf5(named: str, chunks: tuple[int, int] | None, root: Path) -> None:
    with h5py.File(root / "betas.h5", "w") as file:
        key = named.partition(":")[2] or "betas"
        file.create_dataset(key, data=RESPONSES, chunks=chunks, compression="gzip" if chunks else None)
    folder = Folder(str(root), responses=named)
    np.testing.assert_array_equal(folder.responses("01").data, RESPONSES)
    np.testing.assert_array_equal(folder.responses("01", slice(1, 4)).data, RESPONSES[:, 1:4])


def test_hdf5_that_is_transposed_or_of_several_arrays_is_refused(root: Path) -> None:
    with h5py.File(root / "betas.h5", "w") as file:
        file["x"], file["y"] = RESPONSES.T, RESPONSES
    with pytest.raises(InputError, match=r"has x, y; name the array of responses as betas\.h5:NAME"):
        Folder(str(root), responses="betas.h5").responses("01")
    with pytest.raises(AlignmentError, match=r"is \(5, 8\), trials.tsv has 8 rows.* It may be transposed"):
        Folder(str(root), responses="betas.h5:x").responses("01")
    np.testing.assert_array_equal(Folder(str(root), responses="betas.h5:y").responses("01").data, RESPONSES)


def cifti(path: Path, *, sides: tuple[str, ...] = ("left", "right")) -> np.ndarray:
    """Write grayordinates of two cortices of 6 vertices, of which vertex 1 and 4 are medial, and of 2 voxels below."""
    cortex = np.array([True, False, True, True, False, True])
    axes = [nib.cifti2.BrainModelAxis.from_mask(cortex, name=f"cortex_{side}") for side in sides]
    below = np.zeros((2, 2, 2), dtype=bool)
    below[0, 0] = True
    axes.append(nib.cifti2.BrainModelAxis.from_mask(below, name="thalamus_left", affine=np.eye(4)))
    models = axes[0]
    for axis in axes[1:]:
        models = models + axis
    values = np.random.default_rng(1).standard_normal((8, len(models))).astype(np.float32)
    image = nib.Cifti2Image(values, (nib.cifti2.SeriesAxis(0, 1, 8), models))
    image.nifti_header.set_intent("NIFTI_INTENT_CONNECTIVITY_DENSE_SERIES")
    nib.save(image, path)
    return values


def test_grayordinates_are_read_from_cifti(root: Path) -> None:
    values = cifti(root / "betas.dtseries.nii")
    folder = Folder(str(root), responses="betas.dtseries.nii")
    np.testing.assert_array_equal(folder.responses("01").data, values)
    np.testing.assert_array_equal(folder.responses("01", slice(3, 7)).data, values[:, 3:7])


def test_cortex_of_cifti_has_all_vertices_and_nan_where_there_is_no_grayordinate(root: Path) -> None:
    from latentcortex.datasets._response_files import CiftiMatrix, Rows

    values = cifti(root / "betas.dscalar.nii")
    matrix = CiftiMatrix.open(root / "betas.dscalar.nii", Rows(8, root / "trials.tsv"), on_cortex=True)
    expected = np.full((8, 12), np.nan, dtype=np.float32)
    expected[:, [0, 2, 3, 5, 6, 8, 9, 11]] = values[:, :8]
    np.testing.assert_array_equal(matrix.columns(0, 12), expected)
    np.testing.assert_array_equal(matrix.columns(4, 7), expected[:, 4:7])
    cifti(root / "left.dscalar.nii", sides=("left",))
    with pytest.raises(InputError, match="has no CIFTI_STRUCTURE_CORTEX_RIGHT; expected both hemispheres"):
        CiftiMatrix.open(root / "left.dscalar.nii", Rows(8, root / "trials.tsv"), on_cortex=True)
    (root / "none.dscalar.nii").write_bytes(b"hello")
    with pytest.raises(InputError, match=r"none\.dscalar\.nii is not a CIFTI file"):
        CiftiMatrix.open(root / "none.dscalar.nii", Rows(8, root / "trials.tsv"), on_cortex=True)


def test_a_csv_of_trials_may_call_its_columns_anything(root: Path) -> None:
    (root / "trials.tsv").unlink()
    np.save(root / "responses.npy", RESPONSES)
    rows = [f'"{name}",{i // 4 + 1},s1,{i}' for i, name in enumerate(IDS * 2)]
    (root / "log.csv").write_text("\ufeffimage,block,day,stimulus_id\r\n" + "\r\n".join(rows) + "\r\n", "utf-8")
    columns = {"stimulus": "image", "run": "block", "session": "day"}
    made = Folder(str(root), trials="log.csv", columns=columns)
    assert list(made.rows("01")["stimulus"]) == list(IDS * 2)
    assert list(made.rows("01")["run"]) == ["1"] * 4 + ["2"] * 4
    assert set(made.rows("01")["session"]) == {"s1"}
    with pytest.raises(InputError, match=r"log\.csv has no column blok; found image, block, day, stimulus_id"):
        Folder(str(root), trials="log.csv", columns={**columns, "run": "blok"}).rows("01")
    with pytest.raises(InputError, match="stimulus"):
        Folder(str(root), columns={"stimuls": "image"})


def test_rows_in_another_order_are_matched_by_their_numbers_and_said(root: Path, caplog) -> None:
    np.save(root / "responses.npy", RESPONSES)
    order = np.array([3, 1, 0, 2, 7, 6, 5, 4])
    trials = pd.DataFrame({"stimulus_id": IDS * 2, "session": "1", "run": "1", "row": order})
    trials.to_csv(root / "trials.tsv", sep="\t", index=False)
    made = Folder(str(root))
    responses = made.responses("01")
    for trial, row in enumerate(order):
        assert responses.rows["stimulus"][row] == (IDS * 2)[trial]
    np.testing.assert_array_equal(responses.data, RESPONSES)
    assert "in another order than the responses" in caplog.text
    trials.assign(row=order + 1).to_csv(root / "trials.tsv", sep="\t", index=False)
    with pytest.raises(AlignmentError, match="from 0 to 7, each once, and these count from 1"):
        Folder(str(root)).rows("01")


def test_rows_of_several_participants_follow_the_numbers_too(root: Path) -> None:
    np.save(root / "responses.npy", RESPONSES)
    order = np.array([3, 1, 0, 2, 7, 6, 5, 4])
    trials = pd.DataFrame({"stimulus_id": IDS * 2, "session": "1", "run": "1", "row": order})
    trials["participant"] = ["01", "02"] * 4
    trials.to_csv(root / "trials.tsv", sep="\t", index=False)
    made = Folder(str(root), ["01", "02"])
    for label, first in (("01", 0), ("02", 1)):
        rows = np.sort(order[first::2])
        np.testing.assert_array_equal(made.responses(label).data, RESPONSES[rows])
        stimuli = [(IDS * 2)[int(np.flatnonzero(order == row)[0])] for row in rows]
        assert list(made.rows(label)["stimulus"]) == stimuli


@pytest.mark.parametrize(("factor", "said"), [(300, True), (1, False)])
def test_amplitudes_that_look_like_int16_times_300_are_said(factor: int, said: bool, root: Path, caplog) -> None:
    values = np.clip(np.rint(factor * RESPONSES), -32768, 32767).astype(np.int16)
    values[0, 0] = 32767 if said else 1
    np.save(root / "responses.npy", values)
    Folder(str(root)).responses("01")
    assert ("percent signal change times 300" in caplog.text) == said
    if said:
        assert "1 of 40 that were looked at are saturated" in caplog.text


def test_what_is_known_of_voxels_is_kept_beside_the_maps(root: Path) -> None:
    np.save(root / "responses.npy", RESPONSES)
    assert Folder(str(root)).tables("01") == {}
    before = Folder(str(root)).fingerprint("01")
    (root / "voxels.tsv").write_text("region\n" + "\n".join(["V1", "V1", "V2", "n/a", "FFA"]) + "\n")
    assert list(Folder(str(root)).tables("01")["voxels"]["region"]) == ["V1", "V1", "V2", "n/a", "FFA"]
    assert Folder(str(root)).fingerprint("01") != before
    (root / "voxels.tsv").write_text("region\nV1\n")
    with pytest.raises(AlignmentError, match=r"has 1 rows, .*responses\.npy 5 voxels"):
        Folder(str(root)).tables("01")


def without_images(root: Path, captions: bool = False) -> None:
    for path in (root / "stimuli").iterdir():
        path.unlink()
    (root / "stimuli").rmdir()
    listing = pd.DataFrame({"stimulus_id": IDS})
    if captions:
        listing["caption"] = ["a cat", "a dog", "a cat and a dog", "a bus"]
    listing.to_csv(root / "stimuli.tsv", sep="\t", index=False)


def precomputed(folder: Path, ids: tuple[str, ...] = IDS[::-1]) -> np.ndarray:
    """Write a band of features in another order than the stimuli are."""
    folder.mkdir()
    values = np.random.default_rng(2).standard_normal((len(ids), 3))
    np.save(folder / "clip.npy", values)
    (folder / "ids.txt").write_text("\n".join(ids) + "\n")
    return values


def test_precomputed_features_are_found_by_id_and_need_no_images(root: Path, tmp_path: Path) -> None:
    without_images(root)
    np.save(root / "responses.npy", RESPONSES)
    values = precomputed(tmp_path / "features")
    stimuli = Folder(str(root)).stimuli()
    assert not stimuli.has_images
    with pytest.raises(InputError, match="Stimulus a has no image"):
        stimuli.images(["a"])
    extractor = make("precomputed", folder=str(tmp_path / "features"))
    features = extract(stimuli, extractor, store=tmp_path / "store", progress=False)
    np.testing.assert_array_equal(features.array("clip", IDS), values[::-1].astype(np.float32))


def test_precomputed_features_that_do_not_fit_are_refused(root: Path, tmp_path: Path) -> None:
    np.save(root / "responses.npy", RESPONSES)
    stimuli = Folder(str(root)).stimuli()
    precomputed(tmp_path / "few", IDS[:3])
    with pytest.raises(AlignmentError, match=r"1 of 4 stimuli of features in .* are not there: d"):
        extract(stimuli, make("precomputed", folder=str(tmp_path / "few")), store=tmp_path / "store", progress=False)
    (tmp_path / "few" / "ids.txt").write_text("a\nb\n")
    with pytest.raises(AlignmentError, match=r"clip\.npy is \(3, 3\), and 2 ids are given"):
        extract(stimuli, make("precomputed", folder=str(tmp_path / "few")), store=tmp_path / "store", progress=False)
    (tmp_path / "few" / "ids.txt").unlink()
    with pytest.raises(InputError, match=r"neither ids\.tsv nor ids\.txt"):
        extract(stimuli, make("precomputed", folder=str(tmp_path / "few")), store=tmp_path / "store", progress=False)
    with pytest.raises(InputError, match="Did you mean 'clip'"):
        make("precomputed", folder=str(tmp_path / "few"), bands=["clp"])


def test_captions_are_enough_for_categories(root: Path, tmp_path: Path) -> None:
    without_images(root, captions=True)
    np.save(root / "responses.npy", RESPONSES)
    stimuli, extractor = Folder(str(root)).stimuli(), make("categories", words=["cat", "dog"])
    features = extract(stimuli, extractor, store=tmp_path / "store", progress=False)
    np.testing.assert_array_equal(features.array("categories", IDS), [[1, 0], [0, 1], [1, 1], [0, 0]])
    with pytest.raises(InputError, match="has no image"):
        extract(stimuli, make("pixels"), store=tmp_path / "store", progress=False)


def test_images_of_several_sizes_are_each_resized(root: Path, tmp_path: Path, caplog) -> None:
    np.save(root / "responses.npy", RESPONSES)
    caplog.set_level("INFO")
    made = {}
    for side in ((16, 12), (8, 8)):
        picture = np.random.default_rng(side[0]).integers(0, 256, (*side, 3), dtype=np.uint8)
        Image.fromarray(picture).save(root / "stimuli" / "b.png")
        stimuli = Folder(str(root), any_size=True).stimuli()
        made[side] = extract(stimuli, make("pixels"), store=tmp_path / "store", progress=False)
    assert "Images differ in size (8 x 8, 16 x 12 pixels)" in caplog.text
    one, other = (made[side].array("pixels", IDS) for side in ((16, 12), (8, 8)))
    np.testing.assert_array_equal(one[[0, 2, 3]], other[[0, 2, 3]])
    assert not np.array_equal(one[1], other[1])
    expected = extract(stimuli.select_stimuli(["b"]), make("pixels"), store=tmp_path / "other", progress=False)
    np.testing.assert_array_equal(other[1], expected.array("pixels", ["b"])[0])


def test_a_study_without_images_runs_to_its_report(folder_study: Path, tmp_path: Path) -> None:
    data = folder_study.parent / "data"
    listing = pd.read_csv(data / "stimuli.tsv", sep="\t")
    pictures = [np.asarray(Image.open(data / "stimuli" / name))[::4, ::4, 0] for name in listing["stim_file"]]
    (folder_study.parent / "features").mkdir()
    np.save(folder_study.parent / "features" / "grey.npy", np.stack(pictures).astype(np.float32))
    listing[["stimulus_id"]].to_csv(folder_study.parent / "features" / "ids.tsv", sep="\t", index=False)
    for path in (data / "stimuli").iterdir():
        path.unlink()
    (data / "stimuli").rmdir()
    listing[["stimulus_id"]].to_csv(data / "stimuli.tsv", sep="\t", index=False)
    text = folder_study.read_text().replace('name = "pixels"\nsize = 8', 'name = "precomputed"\nfolder = "features"')
    folder_study.write_text(text)
    Study.read(folder_study).run(tmp_path / "out", progress=False)
    page = (tmp_path / "out" / "sub-01.html").read_text()
    assert "Features (grey) were used as they were given" in page


def test_regions_of_voxels_without_a_position_are_those_of_voxels_tsv(folder_study: Path, tmp_path: Path) -> None:
    data = folder_study.parent / "data"
    listed = ["driven"] * 10 + ["noise"] * 15 + ["n/a"] * 5
    (data / "voxels.tsv").write_text("region\tprf\n" + "\n".join(f"{name}\t1.5" for name in listed) + "\n")
    folder_study.write_text(folder_study.read_text() + '\n[report]\natlas = "voxels"\n')
    Study.read(folder_study).run(tmp_path / "out", progress=False)
    page = (tmp_path / "out" / "sub-01.html").read_text()
    assert "Regions are those of the atlas voxels" in page
    assert "<td>driven" in page or ">driven<" in page
    again = cli.main(["report", str(tmp_path / "out")])
    assert again == 0
    assert (tmp_path / "out" / "sub-01.html").read_text() == page


def test_columns_of_0_and_1_name_regions_too(root: Path) -> None:
    np.save(root / "responses.npy", RESPONSES)
    (root / "voxels.tsv").write_text("V1\tV2\tnc\n1\t0\t.5\n0\t1\t.2\n0\t0\t.1\n1\t0\t.1\n0\t0\t.3\n")
    atlas = Folder(str(root)).regions("01")
    assert [atlas.names.get(label) for label in atlas.labels.tolist()] == ["V1", "V2", None, "V1", None]
    (root / "voxels.tsv").write_text("V1\tV2\n1\t0\n1\t1\n0\t0\n1\t0\n0\t0\n")
    with pytest.raises(InputError, match="row 3 is in V1, V2; expected each voxel in one region"):
        Folder(str(root)).regions("01")

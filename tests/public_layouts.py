"""Phantom cohorts in the layouts in which public ones are downloaded, one function for each of the paper's protocol.

Each writes `count` patients, drawn from `seed`, into a folder and returns it. The field's own names of files, values of
labels and orders of axes are kept; what is small is the scans.
"""

import json

import nibabel as nib
import numpy as np

from pixelglobal.data.phantom import STRUCTURES, make_phantom

KIDNEY_AND_TUMOUR = np.array([0, 1, 2, 1, 1], np.uint8)  # label values of the phantom -> those of KiTS
TO_SPL = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1.0]])


def _phantoms(seed, count):
    """(HU, labels, affine) of each patient, arrays in the order of NIfTI files (x, y, z)."""
    for i in range(count):
        hu, labels, spacing_mm = make_phantom(np.random.default_rng([seed, i]), size=32, n_slices=8)
        yield hu.transpose(2, 1, 0), labels.transpose(2, 1, 0), np.diag([*spacing_mm[::-1], 1.0])


def _write(path, array, affine):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.ascontiguousarray(array), affine), path)


def ribfrac(folder, seed, count=3):
    """Images and labels in separate trees; the labels number the fractures."""
    for i, (hu, labels, affine) in enumerate(_phantoms(seed, count), 1):
        _write(folder / f"ribfrac-train-images/Part1/RibFrac{i}-image.nii.gz", hu, affine)
        _write(folder / f"ribfrac-train-labels/Part1/RibFrac{i}-label.nii.gz", labels, affine)
    return folder


def msd(folder, seed, count=3):
    """A task of the Decathlon; the last scan is in imagesTs, without labels."""
    listed = {"training": [], "test": []}
    for i, (hu, labels, affine) in enumerate(_phantoms(seed, count)):
        part = "Ts" if i == count - 1 else "Tr"
        _write(folder / f"images{part}/organ_{i:03d}.nii.gz", hu, affine)
        if part == "Ts":
            listed["test"].append(f"./imagesTs/organ_{i:03d}.nii.gz")
            continue
        _write(folder / f"labelsTr/organ_{i:03d}.nii.gz", labels, affine)
        listed["training"].append({kind: f"./{kind}sTr/organ_{i:03d}.nii.gz" for kind in ("image", "label")})
    names = {str(value): name for value, name in enumerate(("background", *STRUCTURES))}
    _describe(folder, name="Organ", modality={"0": "CT"}, labels=names, **listed)
    return folder


def totalsegmentator(folder, seed, count=3):
    """A folder for each scan, with a mask file for each structure."""
    for i, (hu, labels, affine) in enumerate(_phantoms(seed, count)):
        _write(folder / f"s{i:04d}/ct.nii.gz", hu, affine)
        for value, name in enumerate(("urinary_bladder", "colon", "hip_left", "hip_right"), 1):
            _write(folder / f"s{i:04d}/segmentations/{name}.nii.gz", (labels == value).astype(np.uint8), affine)
    return folder


def amos(folder, seed, count=3):
    """Three parts, of which the test part has no labels."""
    for i, (hu, labels, affine) in enumerate(_phantoms(seed, count)):
        part = ("Tr", "Va", "Ts")[i % 3]
        _write(folder / f"images{part}/amos_{i:04d}.nii.gz", hu, affine)
        if part != "Ts":
            _write(folder / f"labels{part}/amos_{i:04d}.nii.gz", labels, affine)
    return folder


def flare(folder, seed, count=3):
    """Images with the number of their channel."""
    for i, (hu, labels, affine) in enumerate(_phantoms(seed, count)):
        _write(folder / f"images/FLARE22_Tr_{i:04d}_0000.nii.gz", hu, affine)
        _write(folder / f"labels/FLARE22_Tr_{i:04d}.nii.gz", labels, affine)
    return folder


def kits(folder, seed, count=4):
    """KiTS19: the first axis goes from head to feet."""
    for i, (hu, labels, affine) in enumerate(_phantoms(seed, count)):
        turned = [np.transpose(array, (2, 1, 0))[::-1] for array in (hu, KIDNEY_AND_TUMOUR[labels])]
        x_mm, y_mm, z_mm = np.diag(affine)[:3]
        to_patient = TO_SPL * np.array([z_mm, y_mm, x_mm, 1.0])
        for name, array in zip(("imaging", "segmentation"), turned, strict=True):
            _write(folder / f"data/case_{i:05d}/{name}.nii.gz", array, to_patient)
    return folder


def nnunet(folder, seed, count=4, *, name, structures):
    """A raw folder of nnU-Net."""
    for i, (hu, labels, affine) in enumerate(_phantoms(seed, count)):
        _write(folder / f"imagesTr/{name}_{i:03d}_0000.nii.gz", hu, affine)
        _write(folder / f"labelsTr/{name}_{i:03d}.nii.gz", labels, affine)
    values = {structure: value for value, structure in enumerate(("background", *structures))}
    _describe(folder, name=name, channel_names={"0": "CT"}, labels=values, numTraining=count, file_ending=".nii.gz")
    return folder


def hospital(folder, seed, count=4):
    """A folder for each patient, which only patterns describe."""
    for i, (hu, labels, affine) in enumerate(_phantoms(seed, count)):
        _write(folder / f"patient_{i}/ct.nii.gz", hu, affine)
        _write(folder / f"patient_{i}/patient_{i}_organs.nii.gz", labels, affine)
    return folder


def _describe(folder, **facts):
    (folder / "dataset.json").write_text(json.dumps(facts))

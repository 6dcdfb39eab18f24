"""Resampled labels are labels: each pixel has the structure of the nearest pixel of the scan, never one in between."""

import nibabel as nib
import numpy as np

from pixelglobal.data.prepare import prepare

SPACING_MM = 7.0  # of stored pixels; those of the phantom are larger


def test_labels_are_resampled_from_the_nearest_pixel(phantom_folder, tiny, tmp_path):
    file = nib.load(phantom_folder / "labelsTr/phantom_000.nii.gz")
    labels = np.asarray(file.dataobj).transpose(2, 1, 0)
    pixel_mm = float(file.header.get_zooms()[0])
    n = round(labels.shape[-1] * pixel_mm / SPACING_MM)
    assert n > labels.shape[-1]
    nearest = np.floor((np.arange(n) + 0.5) * labels.shape[-1] / n).astype(int)
    expected = labels[:, nearest][:, :, nearest]

    values = {"in_plane_spacing_mm": SPACING_MM, "image_size": 32 * (n // 32 + 1)}
    store = prepare(phantom_folder, tmp_path / "store", tiny.prepare.model_copy(update=values)).store
    stored = store.read_case("phantom_000").label.numpy()
    first = (stored.shape[-1] - n) // 2
    inside = stored[:, first : first + n, first : first + n]
    assert (inside == expected).mean() > 0.999  # a centre that lies between two pixels may fall to either
    assert set(np.unique(stored)) == set(np.unique(labels))

"""Labels as RTSTRUCT and SEG: read again, they are the labels to the last voxel, on the images they were made for."""

import numpy as np
import pandas as pd
import pytest

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")

import pixelglobal as pg  # noqa: E402
from pixelglobal.config.schema import Prepare  # noqa: E402
from pixelglobal.data.dicom_results import write_rtstruct, write_seg  # noqa: E402
from pixelglobal.data.layouts import read_cohort  # noqa: E402
from pixelglobal.data.stored_grid import StoredGrid  # noqa: E402
from tests.data.test_dicom import write_series  # noqa: E402
from tests.support import guessing_segmenter  # noqa: E402

STRUCTURES = ["Bladder", "Rectum"]


def read_again(folder):
    cohort = read_cohort(folder, Prepare())
    [case] = cohort.cases
    return case, cohort, cohort.load(case, cohort.code, None)


def drawn_on(shape):
    """A structure with a hole, one of single voxels that touch at corners, and both at the edge of the images."""
    labels = np.zeros(shape, np.uint8)
    labels[2:9, 5:20, 8:30] = 1
    labels[4:7, 9:14, 12:20] = 0
    labels[10:12, 0:6, 0:5] = 1
    labels[-1, ::2, ::2] = labels[-1, 1::2, 1::2] = 2
    return labels


@pytest.mark.parametrize("write", [write_rtstruct, write_seg])
@pytest.mark.parametrize("axes", [[1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1], [-1, 0, 0, 0, -1, 0]])
def test_labels_that_were_written_are_read_again(tmp_path, write, axes):
    """Axial, coronal, and an axial series that was scanned the other way round."""
    normal = np.cross(axes[:3], axes[3:])
    images = write_series(tmp_path, ImageOrientationPatient=axes)
    for k, image in enumerate(images):
        image.ImagePositionPatient = (np.array([-20.0, -30.0, -700.0]) + 2.5 * k * normal).tolist()
        image.save_as(image.filename, enforce_file_format=True)
    case, _, bare = read_again(tmp_path)
    labels = drawn_on(bare.image_hu.shape)
    write(case.series, tmp_path / "results.dcm", labels, STRUCTURES)
    case, cohort, volume = read_again(tmp_path)
    assert case.label == tmp_path / "results.dcm"
    assert list(cohort.structures) == STRUCTURES
    np.testing.assert_array_equal(volume.labels, labels)
    assert volume.remarks == ()


def test_a_structure_set_refers_to_its_images_and_patient_and_says_that_nobody_approved_it(tmp_path):
    images = write_series(tmp_path)
    case, _, volume = read_again(tmp_path)
    path = write_rtstruct(case.series, tmp_path / "results.dcm", drawn_on(volume.image_hu.shape), STRUCTURES)
    dataset = pydicom.dcmread(path)
    assert (dataset.PatientID, dataset.StudyInstanceUID) == (images[0].PatientID, images[0].StudyInstanceUID)
    assert dataset.SeriesInstanceUID != images[0].SeriesInstanceUID
    assert dataset.ApprovalStatus == "UNAPPROVED"
    place = {image.SOPInstanceUID: image.ImagePositionPatient[2] for image in images}
    for roi in dataset.ROIContourSequence:
        for contour in roi.ContourSequence:
            [image] = contour.ContourImageSequence
            assert float(contour.ContourData[2]) == pytest.approx(place[image.ReferencedSOPInstanceUID])
    assert {roi.ROIGenerationAlgorithm for roi in dataset.StructureSetROISequence} == {"AUTOMATIC"}


def test_a_series_is_segmented_and_comes_back_as_dicom(tmp_path):
    write_series(tmp_path / "scans")
    grid = StoredGrid(64, -1024.0, 325.0, None, True)
    model = guessing_segmenter(tmp_path / "model", grid, STRUCTURES)
    summary = pg.predict(tmp_path / "scans", tmp_path / "out", model=model)
    assert (summary["error"] == "").all()
    [name] = set(summary["case"])
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {f"{name}.nii.gz", f"{name}_RTSTRUCT.dcm", "summary.csv"} <= written
    assert pd.read_csv(tmp_path / "out/summary.csv")["structure"].tolist() == STRUCTURES
    found = bool(summary["volume_ml"].sum())
    assert (f"{name}_SEG.dcm" in written) == found

"""DICOM exports as clinics have them: series, structure sets and segmentations, written with pydicom and highdicom."""

import json

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
highdicom = pytest.importorskip("highdicom")

from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.sequence import Sequence  # noqa: E402
from pydicom.sr.codedict import codes  # noqa: E402
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid  # noqa: E402

from pixelglobal.config.schema import Prepare  # noqa: E402
from pixelglobal.data.layouts import layout_of, read_cohort  # noqa: E402
from pixelglobal.evaluation.metrics import hausdorff_mm  # noqa: E402

SHAPE, SPACING, ORIGIN = (24, 40, 44), (2.5, 0.9, 0.9), np.array([-20.0, -30.0, -700.0])  # z, y, x; LPS
CENTRE, RADIUS = ORIGIN + np.array([20.0, 17.0, 28.0]), 13.0


def new(uid, path, **facts):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = uid
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    for name, value in facts.items():
        setattr(dataset, name, value)
    dataset.filename = path
    return dataset


def write_series(folder, patient="P 1", *, tilt=0.0, series=None, kept=None, **changes):
    """A CT series whose voxels hold 10 k + i mod 10 HU, with names from head to feet; returns its datasets."""
    folder.mkdir(parents=True, exist_ok=True)
    series, study, frame = series or generate_uid(), generate_uid(), generate_uid()
    written = []
    for k in range(SHAPE[0]):
        place = ORIGIN + np.array([0.0, tilt * k, SPACING[0] * k])
        image = new(
            CTImageStorage, folder / f"{900 - k}.img", PatientID=patient, PatientName="Doe^Jane", Modality="CT",
            SeriesInstanceUID=series, StudyInstanceUID=study, FrameOfReferenceUID=frame, SeriesNumber=3,
            ImageType=["ORIGINAL", "PRIMARY", "AXIAL"], Rows=SHAPE[1], Columns=SHAPE[2], PixelSpacing=list(SPACING[1:]),
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0], ImagePositionPatient=place.tolist(), SliceThickness=SPACING[0],
            SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2", BitsAllocated=16, BitsStored=16, HighBit=15,
            PixelRepresentation=0, RescaleSlope=0.5, RescaleIntercept=-1000 - k, InstanceNumber=SHAPE[0] - k,
            PatientBirthDate="", PatientSex="", StudyDate="", StudyTime="", AccessionNumber="", StudyID="",
            ReferringPhysicianName="", PositionReferenceIndicator="", Manufacturer="x",
        )  # fmt: skip
        for name, value in changes.items():
            setattr(image, name, value)
        hu = np.broadcast_to(10 * k + np.arange(SHAPE[2]) % 10, SHAPE[1:])
        image.PixelData = ((hu + 1000 + k) * 2).astype("<u2").tobytes()
        if kept is None or k in kept:
            image.save_as(image.filename, enforce_file_format=True)
        written.append(image)
    return written


def circle(z_mm, radius, centre=CENTRE, n=90):
    """Points of the circle in which a sphere meets a plane, as ContourData; None where it does not."""
    if abs(z_mm - centre[2]) >= radius:
        return None
    r, angle = np.sqrt(radius**2 - (z_mm - centre[2]) ** 2), np.linspace(0, 2 * np.pi, n, endpoint=False)
    return np.column_stack([centre[0] + r * np.cos(angle), centre[1] + r * np.sin(angle), np.full(n, z_mm)])


def write_structures(path, images, rois, **facts):
    """rois: [(name, list of contours float [N, 3])]."""
    series = Dataset()
    series.SeriesInstanceUID = images[0].SeriesInstanceUID
    study, frame = Dataset(), Dataset()
    study.RTReferencedSeriesSequence = Sequence([series])
    frame.RTReferencedStudySequence, frame.FrameOfReferenceUID = Sequence([study]), images[0].FrameOfReferenceUID
    dataset = new(
        RTStructureSetStorage, path, Modality="RTSTRUCT", PatientID=images[0].PatientID,
        SeriesInstanceUID=generate_uid(), ReferencedFrameOfReferenceSequence=Sequence([frame]), **facts,
    )  # fmt: skip
    named, drawn = [], []
    for number, (name, contours) in enumerate(rois, 1):
        roi, lines = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, lines.ReferencedROINumber = number, name, number
        lines.ContourSequence = Sequence()
        for points in contours:
            contour = Dataset()
            contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
            contour.ContourData = [f"{value:.4f}" for value in points.ravel()]
            lines.ContourSequence.append(contour)
        named.append(roi)
        drawn.append(lines)
    dataset.StructureSetROISequence, dataset.ROIContourSequence = Sequence(named), Sequence(drawn)
    dataset.save_as(path, enforce_file_format=True)


def sphere_contours(images, radius=RADIUS):
    return [c for image in images if (c := circle(float(image.ImagePositionPatient[2]), radius)) is not None]


def load(folder, **settings):
    cohort = read_cohort(folder, Prepare(**settings))
    return cohort, [cohort.load(case, cohort.code, None) for case in cohort.cases]


def inside_sphere(affine, shape, radius=RADIUS):
    z, y, x = np.meshgrid(*map(np.arange, shape), indexing="ij")
    ras = np.stack([x, y, z, np.ones(shape)], -1) @ affine.T
    return np.linalg.norm(ras[..., :3] * [-1, -1, 1] - CENTRE, axis=-1) < radius


def test_a_series_is_one_grid_in_hu_whatever_its_names_order_and_slope(tmp_path):
    write_series(tmp_path / "a" / "b" / "c")
    assert layout_of(tmp_path) == "dicom"
    cohort, [volume] = load(tmp_path)
    assert [(case.case, case.patient) for case in cohort.cases] == [("P_1", "P_1")]
    assert volume.spacing_mm == pytest.approx(SPACING)
    assert (volume.image_hu[5, :, ::-1] == 50 + np.arange(SHAPE[2]) % 10).all(), "slices from feet to head"
    assert volume.affine[:3, 3] + np.diag(volume.affine)[:3] * [SHAPE[2] - 1, SHAPE[1] - 1, 0] == pytest.approx(
        ORIGIN * [-1, -1, 1]
    )


def test_a_sphere_in_an_rtstruct_keeps_its_volume_and_its_surface(tmp_path):
    images = write_series(tmp_path)
    write_structures(tmp_path / "rs.dcm", images, [("Sphere", sphere_contours(images))])
    _, [volume] = load(tmp_path)
    truth = inside_sphere(volume.affine, volume.image_hu.shape)
    voxel_ml = np.prod(SPACING) / 1000
    assert volume.labels.sum() * voxel_ml == pytest.approx(4 / 3 * np.pi * RADIUS**3 / 1000, rel=0.02)
    assert (volume.labels.astype(bool) != truth).sum() < 0.005 * truth.sum()
    assert hausdorff_mm(volume.labels.astype(bool), truth, volume.spacing_mm) <= SPACING[1] + 1e-6
    edge = np.argwhere(volume.labels)
    to_centre = np.linalg.norm((edge[:, ::-1] * SPACING[::-1] - (edge[:, ::-1] * SPACING[::-1]).mean(0)), axis=1)
    assert abs(to_centre.max() - RADIUS) < SPACING[1]


def test_holes_copies_united_rois_other_names_and_what_was_not_contoured(tmp_path):
    for patient in ("A", "B"):
        images = write_series(tmp_path / patient, patient)
        middle = images[11:14]
        ring = [c for image in middle for r in (12, 5) for c in [circle(float(image.ImagePositionPatient[2]), r)]]
        left = [circle(float(image.ImagePositionPatient[2]), 13, CENTRE + np.array([30, 0, 0])) for image in middle]
        rois = [("BLADDER_wall", [*ring, ring[0]]), ("Blase", left), ("Couch", left)]
        rois += [("rectum", left)] if patient == "A" else []
        write_structures(tmp_path / f"{patient}.dcm", images, rois)
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"Bladder": ["bladder*", "blase"], "Rectum": ["rectum"], "Uterus": ["uterus"]}))
    cohort, [a, b] = load(tmp_path, roi_names=str(names))
    assert cohort.structures == ("Bladder", "Rectum", "Uterus")
    assert (a.looked_for, b.looked_for) == ((True, True, False), (True, False, False))
    middle = b.labels[12]
    j, i = np.array(SHAPE[1:]) - 1 - np.rint((CENTRE - ORIGIN)[1::-1] / 0.9).astype(int)
    assert middle[j, i] == 0, "a hole"
    assert middle[j, i - 10] == 1
    assert "voxels are in several structures" in a.remarks[0]


def test_segmentations_of_highdicom(tmp_path):
    images = write_series(tmp_path)
    masks = np.zeros((*SHAPE, 2), np.uint8)
    masks[3:9, 10:20, 5:15, 0], masks[12:15, 4:8, 30:40, 1] = 1, 1
    described = [
        highdicom.seg.SegmentDescription(
            number, label, codes.SCT.Organ, codes.SCT.Kidney, highdicom.seg.SegmentAlgorithmTypeValues.MANUAL
        )
        for number, label in ((1, "Kidney"), (2, "Tumour"))
    ]
    highdicom.seg.Segmentation(
        images, masks, highdicom.seg.SegmentationTypeValues.BINARY, described, generate_uid(), 9, generate_uid(), 1,
        "maker", "model", "1", "serial",
    ).save_as(tmp_path / "seg.dcm")  # fmt: skip
    cohort, [volume] = load(tmp_path)
    assert cohort.structures == ("Kidney", "Tumour")
    expected = (masks[..., 0] + 2 * masks[..., 1])[:, ::-1, ::-1]
    assert (volume.labels == expected).all()


def test_several_series_localisers_doses_copies_and_the_newest_structures(tmp_path):
    images = write_series(tmp_path / "one", "A")
    write_series(tmp_path / "two", "A", SeriesNumber=1)
    write_series(tmp_path / "scout", "A", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], kept=[0])
    write_series(tmp_path / "dose", "A", Modality="RTDOSE", kept=[0, 1])
    (tmp_path / "copies").mkdir()
    (tmp_path / "copies/1.dcm").write_bytes((tmp_path / "one/900.img").read_bytes())
    (tmp_path / "one/DICOMDIR.txt").write_text("no DICOM")
    for name, date in (("new", "20200102"), ("old", "20190101")):
        contours = [(name, sphere_contours(images))]
        write_structures(tmp_path / f"{name}.dcm", images, contours, StructureSetDate=date, StructureSetTime="120000")
    cohort, [first, second] = load(tmp_path)
    assert [case.case for case in cohort.cases] == ["A_1", "A_2"]
    assert first.labels is None
    assert second.looked_for == (True, False)
    assert set(cohort.notes) == {
        "1 localisers are not read", "1 files are copies of an image and are not read", "A_2 has 2 structure sets; the "
        "newest is read", "2 files of the modality RTDOSE are not read",
    }  # fmt: skip


def test_a_tilted_gantry_is_kept_and_said(tmp_path):
    write_series(tmp_path, tilt=0.4)
    _, [volume] = load(tmp_path)
    angle = np.degrees(np.arctan(0.4 / SPACING[0]))
    assert volume.remarks == (f"the gantry was tilted by {angle:.1f} degrees; slices stay as they were scanned",)
    assert abs(volume.affine[1, 2]) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kept": [0, 1, 2, 3, 5, 6, 7]}, r"895\.img: is 5\.00 mm from 897\.img where 2\.50 mm are usual"),
        ({"kept": [4]}, "is the only image of its series"),
        ({"ImagePositionPatient": [0, 0, 0]}, "is at the same place as"),
        ({"PixelSpacing": [0, 0]}, "cannot be read"),
        ({"Rows": 60000}, r"cannot be read|claims"),
    ],
)
def test_series_that_cannot_be_a_grid_are_named(tmp_path, change, message):
    write_series(tmp_path, **change)
    with pytest.raises(ValueError, match=message):
        load(tmp_path)


def test_a_damaged_image_is_named(tmp_path):
    write_series(tmp_path)
    path = tmp_path / "890.img"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"890\.img: cannot be read"):
        load(tmp_path)

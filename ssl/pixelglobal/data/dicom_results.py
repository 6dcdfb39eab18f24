"""Labels of a CT series as DICOM: an RTSTRUCT, which planning systems read, and a SEG (the extra `dicom`).

Coordinates are DICOM's, LPS in mm, at the centres of voxels; arrays here are [k, j, i]: image, row, column, with images
in the order of their places along the normal of their plane.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import contourpy
import nibabel as nib
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from pixelglobal.files import write_file
from pixelglobal.version import __version__

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
STUDY_COMPONENT = "1.2.840.10008.3.1.2.3.1"  # the class by which an RTSTRUCT refers to a study
OF_THE_PATIENT = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID", "StudyDate",
    "StudyTime", "AccessionNumber", "ReferringPhysicianName", "FrameOfReferenceUID", "PositionReferenceIndicator",
)  # fmt: skip
COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))


class Series:
    """The headers of a CT series in the order of its images, and its grid.

    affine: float64 [4, 4] from (i, j, k) to LPS mm.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in files]
        first = headers[0]
        across, down = np.array(first.ImageOrientationPatient, float).reshape(2, 3)
        positions = np.array([header.ImagePositionPatient for header in headers], float)
        order = np.argsort(positions @ np.cross(across, down), kind="stable")
        self.headers, positions = [headers[i] for i in order], positions[order]
        rows_mm, columns_mm = map(float, first.PixelSpacing)
        step = (positions[-1] - positions[0]) / (len(headers) - 1)
        self.affine = np.eye(4)
        self.affine[:3, :3] = np.column_stack([across * columns_mm, down * rows_mm, step])
        self.affine[:3, 3] = positions[0]

    def in_order(self, array: np.ndarray) -> np.ndarray:
        """Values [Z, H, W] of the canonical grid as [k, j, i]."""
        canonical = nib.orientations.io_orientation(np.eye(4))
        own = nib.orientations.io_orientation(LPS_TO_RAS @ self.affine)
        turn = nib.orientations.ornt_transform(canonical, own)
        turned: np.ndarray = nib.orientations.apply_orientation(array.transpose(2, 1, 0), turn)
        return turned.transpose(2, 1, 0)


def write_rtstruct(files: Sequence[Path], path: Path, labels: np.ndarray, structures: Sequence[str]) -> Path:
    """Write labels [Z, H, W] of a series as an RTSTRUCT: closed contours halfway between voxels inside and outside.

    Filled by the even-odd rule they are the labels again; a hole is a contour in a contour.
    """
    series = Series(files)
    own = series.in_order(labels)
    dataset = _like(series.headers[0], str(RTStructureSetStorage), "RTSTRUCT")
    dataset.StructureSetLabel = "pixelglobal"
    dataset.StructureSetDate, dataset.StructureSetTime = dataset.SeriesDate, dataset.SeriesTime
    dataset.ApprovalStatus = "UNAPPROVED"
    dataset.ReferencedFrameOfReferenceSequence = [_frame_of(series.headers)]
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    dataset.RTROIObservationsSequence = []
    for number, name in enumerate(structures, 1):
        roi = Dataset()
        roi.ROINumber, roi.ROIName, roi.ROIGenerationAlgorithm = number, name, "AUTOMATIC"
        roi.ReferencedFrameOfReferenceUID = series.headers[0].FrameOfReferenceUID
        dataset.StructureSetROISequence.append(roi)
        drawn = Dataset()
        drawn.ReferencedROINumber, drawn.ROIDisplayColor = number, list(COLOURS[(number - 1) % len(COLOURS)])
        drawn.ContourSequence = [
            _contour(series, k, line) for k in range(len(own)) for line in _outlines(own[k] == number)
        ]
        dataset.ROIContourSequence.append(drawn)
        observation = Dataset()
        observation.ObservationNumber = observation.ReferencedROINumber = number
        observation.RTROIInterpretedType, observation.ROIInterpreter = "ORGAN", ""
        dataset.RTROIObservationsSequence.append(observation)
    return write_file(path, lambda scratch: dataset.save_as(scratch, enforce_file_format=True))


def _outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Closed lines [N, 2] of (i, j) around the voxels of a slice [j, i], none if it has none."""
    if not mask.any():
        return []
    padded = np.pad(mask, 1).astype(float)
    lines: Any = contourpy.contour_generator(z=padded).lines(0.5)
    return [line[:-1] - 1 for line in lines]  # the last point is the first again


def _contour(series: Series, k: int, line: np.ndarray) -> Dataset:
    index = np.column_stack([line, np.full(len(line), k), np.ones(len(line))])
    points = index @ series.affine[:3].T
    contour = Dataset()
    contour.ContourImageSequence = [_reference(series.headers[k])]
    contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
    contour.ContourData = [f"{value:.4f}" for value in points.ravel()]
    return contour


def _frame_of(headers: Sequence[Any]) -> Dataset:
    of_series, of_study, frame = Dataset(), Dataset(), Dataset()
    of_series.SeriesInstanceUID = headers[0].SeriesInstanceUID
    of_series.ContourImageSequence = [_reference(header) for header in headers]
    of_study.ReferencedSOPClassUID, of_study.ReferencedSOPInstanceUID = STUDY_COMPONENT, headers[0].StudyInstanceUID
    of_study.RTReferencedSeriesSequence = [of_series]
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = headers[0].FrameOfReferenceUID, [of_study]
    return frame


def _reference(header: Any) -> Dataset:
    image = Dataset()
    image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    return image


def _like(header: Any, sop_class: str, modality: str) -> Dataset:
    """A new object of the patient and study of a header, in a series of its own."""
    dataset, now = Dataset(), datetime.now()
    for name in OF_THE_PATIENT:
        setattr(dataset, name, header.get(name, ""))
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, generate_uid()
    dataset.Modality, dataset.SeriesInstanceUID, dataset.SeriesNumber = modality, generate_uid(), 1000
    dataset.SeriesDescription, dataset.OperatorsName = "pixelglobal, not reviewed", ""
    dataset.SeriesDate = dataset.InstanceCreationDate = now.strftime("%Y%m%d")
    dataset.SeriesTime = dataset.InstanceCreationTime = now.strftime("%H%M%S")
    dataset.Manufacturer, dataset.ManufacturerModelName = "pixelglobal", "pixelglobal"
    dataset.SoftwareVersions = __version__
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def write_seg(files: Sequence[Path], path: Path, labels: np.ndarray, structures: Sequence[str]) -> Path:
    """Write labels [Z, H, W] of a series as a DICOM Segmentation with one binary segment for each structure found."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    series = Series(files)
    own = series.in_order(labels)
    present = [number for number in range(1, len(structures) + 1) if (own == number).any()]
    if not present:
        raise ValueError(f"{path}: nothing was found in the series, and a SEG without a segment cannot be written")
    algorithm = hd.AlgorithmIdentificationSequence(
        name="pixelglobal", version=__version__, family=codes.DCM.ArtificialIntelligence
    )
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=place,
            segment_label=structures[number - 1],
            segmented_property_category=codes.SCT.AnatomicalStructure,
            segmented_property_type=codes.SCT.Organ,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
        )
        for place, number in enumerate(present, 1)
    ]
    segmentation = hd.seg.Segmentation(
        source_images=series.headers,
        pixel_array=np.stack([own == number for number in present], -1).astype(np.uint8),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=descriptions,
        series_instance_uid=hd.UID(),
        series_number=1001,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="pixelglobal",
        manufacturer_model_name="pixelglobal",
        software_versions=__version__,
        device_serial_number="0",
        content_label="PIXELGLOBAL",
        series_description="pixelglobal, not reviewed",
    )
    return write_file(path, lambda scratch: segmentation.save_as(scratch))

"""Volumes: anatomy survives every orientation, and each damaged file is named for what it is."""

import gzip
import tracemalloc
from contextlib import suppress
from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest

from pixelglobal.data.volumes import UNKNOWN_LABEL, read_labels, read_volume, write_labels

AFFINE = np.diag([0.9, 1.1, 3.0, 1.0])
SHAPE_XYZ = (5, 6, 4)


def save(path, array, affine=AFFINE):
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


@pytest.fixture
def scan(tmp_path):
    """Every voxel holds its own address: 100 z + 10 y + x."""
    x, y, z = np.meshgrid(*(np.arange(n) for n in SHAPE_XYZ), indexing="ij")
    image = save(tmp_path / "image.nii.gz", (100 * z + 10 * y + x).astype(np.int16))
    label = save(tmp_path / "label.nii.gz", (x > 2).astype(np.uint8))
    return image, label


def read(image, label=None, n=1):
    return read_volume(image, label, case="c", patient="p", n_structures=n)


def test_arrays_are_z_y_x_with_spacing_in_the_same_order(scan):
    volume = read(*scan)
    assert volume.image_hu.shape == (4, 6, 5)
    assert volume.image_hu.dtype == np.int16
    assert volume.image_hu[3, 2, 1] == 321
    assert volume.spacing_mm == pytest.approx((3.0, 1.1, 0.9))
    assert (volume.labels == (volume.image_hu % 10 > 2)).all()


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("flips", list(product((1, -1), repeat=3)))
def test_every_orientation_gives_the_same_canonical_volume(scan, tmp_path, order, flips):
    source = nib.load(scan[0])
    turned = nib.as_closest_canonical(source).as_reoriented(
        np.array([[axis, flip] for axis, flip in zip(order, flips, strict=True)])
    )
    nib.save(turned, tmp_path / "turned.nii.gz")
    expected, found = read(scan[0]), read(tmp_path / "turned.nii.gz")
    assert (found.image_hu == expected.image_hu).all()
    assert found.spacing_mm == pytest.approx(expected.spacing_mm)
    np.testing.assert_allclose(found.affine, expected.affine, atol=1e-6)


def test_labels_stored_in_another_orientation_than_their_image_still_fit(scan, tmp_path):
    turned = nib.load(scan[1]).as_reoriented(np.array([[1, -1], [0, 1], [2, -1]]))
    nib.save(turned, tmp_path / "turned_label.nii.gz")
    assert (read(scan[0], tmp_path / "turned_label.nii.gz").labels == read(*scan).labels).all()


def test_a_tilted_gantry_keeps_its_spacing_and_its_affine(tmp_path):
    """Directions that are oblique or not at right angles are read as they are."""
    a = np.deg2rad(12)
    tilt = AFFINE.copy()
    tilt[:3, :3] = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]) @ AFFINE[:3, :3]
    sheared = AFFINE.copy()
    sheared[1, 2] = 0.4
    for affine, spacing in ((tilt, (3.0, 1.1, 0.9)), (sheared, (np.hypot(3.0, 0.4), 1.1, 0.9))):
        image = save(tmp_path / "t.nii.gz", np.arange(120, dtype=np.int16).reshape(SHAPE_XYZ), affine)
        volume = read(image)
        assert volume.spacing_mm == pytest.approx(spacing, rel=1e-5)
        np.testing.assert_allclose(volume.affine, affine, atol=1e-5)
        write_labels(tmp_path / "out.nii.gz", np.zeros(volume.image_hu.shape, np.uint8), volume.affine)
        np.testing.assert_allclose(read_labels(tmp_path / "out.nii.gz")[2], affine, atol=1e-5)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("row", [[0, 0, 0, 0], [np.nan, 0, 0, 0], [0, 1.1, 0, 0], [1, 0, 1e20, 0]])
def test_a_header_that_gives_voxels_no_place(tmp_path, row):
    image = nib.Nifti1Image(np.zeros((3, 3, 3), np.int16), AFFINE)
    image.header.set_sform(AFFINE, code=1)
    path = tmp_path / "flat.nii"
    nib.save(image, path)
    raw = bytearray(path.read_bytes())
    raw[280:296] = np.array(row, "<f4").tobytes()  # srow_x of the NIfTI-1 header
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=r"flat\.nii: its header's affine .* no size or no place; expected a spacing"):
        read(path)


def test_a_header_without_an_orientation(tmp_path):
    image = nib.Nifti1Image(np.zeros(SHAPE_XYZ, np.int16), None)
    image.header["sform_code"] = image.header["qform_code"] = 0
    nib.save(image, tmp_path / "a.nii.gz")
    with pytest.raises(ValueError, match=r"a\.nii\.gz: its header says neither by sform nor"):
        read(tmp_path / "a.nii.gz")
    image.header["qform_code"] = 1
    nib.save(image, tmp_path / "b.nii.gz")
    assert read(tmp_path / "b.nii.gz").image_hu.shape == SHAPE_XYZ[::-1]


def test_a_header_with_a_negative_size(tmp_path):
    path = save(tmp_path / "a.nii", np.zeros(SHAPE_XYZ, np.int16))
    raw = bytearray(path.read_bytes())
    raw[42:44] = np.array([-5], "<i2").tobytes()  # dim[1] of the NIfTI-1 header
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=r"a\.nii: has shape \(-5, 6, 4\) and so no voxels; expected a 3-D scan"):
        read(path)


def test_a_scan_without_voxels(tmp_path):
    with pytest.raises(ValueError, match=r"has shape \(3, 3, 0\) and so no voxels"):
        read(save(tmp_path / "e.nii.gz", np.zeros((3, 3, 0), np.int16)))


def test_written_labels_come_back_with_their_geometry(scan, tmp_path):
    volume = read(*scan)
    write_labels(tmp_path / "out.nii.gz", volume.labels, volume.affine)
    labels, spacing, affine = read_labels(tmp_path / "out.nii.gz")
    assert (labels == volume.labels).all()
    assert spacing == pytest.approx(volume.spacing_mm)
    np.testing.assert_allclose(affine, volume.affine)


def test_fractions_are_rounded_and_wild_values_limited(tmp_path):
    values = np.zeros((3, 3, 3), np.float32)
    values[0, 0, 0], values[1, 1, 1], values[2, 2, 2] = 40.6, 1e6, -1e6
    volume = read(save(tmp_path / "f.nii.gz", values))
    assert volume.image_hu.max() == 32767
    assert volume.image_hu.min() == -32768
    assert 41 in volume.image_hu


def test_a_missing_file(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.nii\.gz: there is no such file; check the paths"):
        read(tmp_path / "nowhere.nii.gz")


def test_a_truncated_file(scan, tmp_path):
    torn = tmp_path / "torn.nii.gz"
    torn.write_bytes(scan[0].read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"torn\.nii\.gz: cannot be read .*damaged or no NIfTI\. Copy it again"):
        read(torn)
    (tmp_path / "torn.nii").write_bytes(gzip.decompress(scan[0].read_bytes())[:-40])
    with pytest.raises(ValueError, match=r"torn\.nii: its header claims 592 bytes of voxels, and a file of 552"):
        read(tmp_path / "torn.nii")


def test_a_4_d_image(tmp_path):
    with pytest.raises(ValueError, match=r"has shape \(3, 3, 3, 2\); expected one 3-D scan\. Choose"):
        read(save(tmp_path / "4d.nii.gz", np.zeros((3, 3, 3, 2), np.int16)))
    assert read(save(tmp_path / "4d1.nii.gz", np.zeros((3, 4, 5, 1), np.int16))).image_hu.shape == (5, 4, 3)


def test_nan_voxels(tmp_path):
    values = np.zeros((3, 3, 3), np.float32)
    values[0, 1, :2] = np.nan
    with pytest.raises(ValueError, match=r"2 voxels are not finite.*expected HU everywhere"):
        read(save(tmp_path / "nan.nii.gz", values))


def test_labels_of_another_shape(scan, tmp_path):
    label = save(tmp_path / "small.nii.gz", np.zeros((5, 6, 3), np.uint8))
    with pytest.raises(ValueError, match=r"has \(3, 6, 5\) voxels.*image\.nii\.gz has \(4, 6, 5\); expected the same"):
        read(scan[0], label)


def test_labels_at_another_place(scan, tmp_path):
    moved = AFFINE.copy()
    moved[0, 3] = 2.5
    label = save(tmp_path / "moved.nii.gz", np.zeros(SHAPE_XYZ, np.uint8), moved)
    with pytest.raises(ValueError, match=r"lies up to 2\.50 mm away from its image"):
        read(scan[0], label)


def test_a_label_that_the_cohort_does_not_name(scan, tmp_path):
    labels = np.zeros(SHAPE_XYZ, np.uint8)
    labels[0, 0, 0] = 7
    with pytest.raises(ValueError, match=r"holds label values 7; expected whole numbers from 0 to 2\. Correct"):
        read(scan[0], save(tmp_path / "l.nii.gz", labels), n=2)
    with pytest.raises(ValueError, match=r"holds label values 0\.5"):
        read(scan[0], save(tmp_path / "h.nii.gz", np.full(SHAPE_XYZ, 0.5, np.float32)), n=2)
    for value in (np.nan, np.inf, -1.0, 300.0):
        with pytest.raises(ValueError, match=f"holds label values {value:g}; expected whole numbers from 0 to 2"):
            read(scan[0], save(tmp_path / "n.nii.gz", np.full(SHAPE_XYZ, value, np.float32)), n=2)


def test_one_volume_of_a_4_d_file(tmp_path):
    values = np.arange(54, dtype=np.int16).reshape(3, 3, 3, 2)
    path = save(tmp_path / "4d.nii.gz", values)
    for channel in (0, 1):
        chosen = read_volume(path, case="c", patient="p", channel=channel)
        assert (chosen.image_hu == values[..., channel].transpose(2, 1, 0)).all()
    with pytest.raises(ValueError, match=r"has 2 channels; expected prepare\.channel=2 to be below that"):
        read_volume(path, case="c", patient="p", channel=2)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float64])
def test_scaled_voxels_of_every_type_are_those_that_nibabel_reads(tmp_path, dtype):
    image = nib.Nifti1Image(np.arange(120).astype(dtype).reshape(SHAPE_XYZ), AFFINE)
    image.header.set_slope_inter(2.0, -1024.0)
    nib.save(image, tmp_path / "s.nii.gz")
    expected = np.rint(nib.load(tmp_path / "s.nii.gz").get_fdata()).transpose(2, 1, 0)
    assert (read(tmp_path / "s.nii.gz").image_hu == expected).all()


def test_every_flipped_bit_of_a_compressed_scan_is_found_or_changes_nothing(scan):
    """gzip's checksum does not cover the time and the name in gzip's header, nor bits that no code uses."""
    whole, before = scan[0].read_bytes(), read(scan[0])
    accepted = []
    for position in range(0, len(whole), 3):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << position % 8
        scan[0].write_bytes(flipped)
        with suppress(ValueError):
            volume = read(scan[0])
            accepted.append(position)
            assert (volume.image_hu == before.image_hu).all()
            assert (volume.affine == before.affine).all()
    assert len(accepted) < len(whole) / 10


def test_a_small_file_that_claims_much_is_refused_before_memory_is_taken(tmp_path):
    header = nib.Nifti1Header()
    header.set_data_shape((1200, 1200, 1200))
    header.set_data_dtype(np.int16)
    header.set_sform(AFFINE, code=1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    with gzip.open(tmp_path / "bomb.nii.gz", "wb") as file:
        file.write(header.binaryblock + bytes(4))
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"bomb\.nii\.gz: its header claims 3,456,000,352 bytes of voxels"):
        read(tmp_path / "bomb.nii.gz")
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


@pytest.mark.parametrize("ending", ["nrrd", "mha", "mhd"])
def test_formats_of_itk_give_the_same_volume(scan, tmp_path, ending):
    sitk = pytest.importorskip("SimpleITK")
    for path in scan:
        sitk.WriteImage(sitk.ReadImage(str(path)), str(tmp_path / f"{path.name.removesuffix('.nii.gz')}.{ending}"))
    expected, found = read(*scan), read(tmp_path / f"image.{ending}", tmp_path / f"label.{ending}")
    assert (found.image_hu == expected.image_hu).all()
    assert (found.labels == expected.labels).all()
    np.testing.assert_allclose(found.affine, expected.affine, atol=1e-6)
    torn = tmp_path / f"torn.{ending}"
    torn.write_bytes(b"NRRD0004\nnot a scan")
    with pytest.raises(ValueError, match=rf"torn\.{ending}: .*(Copy it again|copy both)"):
        read(torn)


def test_gapped_label_values_become_one_two_three_and_ignored_voxels_are_no_organ(scan, tmp_path):
    values = np.zeros(SHAPE_XYZ, np.uint8)
    values[0], values[1] = 4, 9
    label = save(tmp_path / "gaps.nii.gz", values)
    coded = read_volume(scan[0], label, case="c", patient="p", label_values=(9, 4))
    assert (coded.labels[:, :, 0] == 2).all()
    assert (coded.labels[:, :, 1] == 1).all()
    ignored = read_volume(scan[0], label, case="c", patient="p", label_values=(4,), ignored_value=9).labels
    assert (ignored[:, :, 0] == 1).all()
    assert (ignored[:, :, 1] == UNKNOWN_LABEL).all()

"""Nobody's name travels: it is in headers, file names and folders of the scans, and in nothing made of them."""

import gzip
import json
import re
import stat
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from pixelglobal.config.schema import Prepare
from pixelglobal.data.ids import ID_MAP
from pixelglobal.data.prepare import prepare
from pixelglobal.data.slices import read_slices

ROOT = Path(__file__).resolve().parents[2]
NAME = "Doe_Jane"
PLANTED = re.compile(rb"doe[_^ ]jane|jane[_^ ]doe|19700101", re.I)  # too long to be found in noise by chance
SMALL = Prepare(image_size=32, train_fraction=0.4, validation_fraction=0.2)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, np.diag([2.0, 2, 3, 1]))
    for field in ("descrip", "db_name", "aux_file", "intent_name"):
        image.header[field] = f"{NAME} 1970"[:15].encode()
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", NAME.encode() * 3))
    nib.save(image, path)


@pytest.fixture
def scans(tmp_path):
    """Six scans and a damaged one in a folder of the patient's name, with names in every place of a NIfTI file."""
    folder, rng = tmp_path / f"{NAME}_study", np.random.default_rng(0)
    for i in range(6):
        labels = np.zeros((12, 12, 4), np.uint8)
        labels[2:5, 2:5], labels[7:9, 7:9] = 1, 2
        save(folder / f"imagesTr/{NAME}{i}.nii.gz", rng.normal(0, 99, labels.shape).astype(np.int16))
        save(folder / f"labelsTr/{NAME}{i}.nii.gz", labels)
    (folder / f"imagesTr/{NAME}8.nii.gz").write_bytes(b"torn")
    save(folder / f"imagesTs/{NAME}9.nii.gz", rng.normal(0, 99, labels.shape).astype(np.int16))
    listed = [{kind: f"{kind}sTr/{NAME}{i}.nii.gz" for kind in ("image", "label")} for i in range(6)]
    facts = {
        "labels": {"0": "background", "1": "A", "2": "B"},
        "patients": {f"{NAME}{i}": f"{NAME}^{i // 2}" for i in range(6)},
        "training": [*listed, {"image": f"imagesTr/{NAME}8.nii.gz"}],
    }
    (folder / "dataset.json").write_text(json.dumps(facts))
    return folder


def contents(folder):
    """The bytes of every file, compressed ones as they are and unpacked, after its name."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        yield path, path.relative_to(folder).as_posix().encode() + path.read_bytes()
        if path.name.endswith(".gz"):
            yield path, gzip.decompress(path.read_bytes())
        if path.suffix == ".parquet":
            table = read_slices(path)
            yield (
                path,
                json.dumps([table.drop(["image", "label", "contoured"]).to_pylist(), str(table.schema)]).encode(),
            )


def test_no_name_is_in_a_store(scans, tmp_path):
    made = prepare(scans, tmp_path / "store", SMALL)
    for path, content in contents(made.store.root):
        assert not PLANTED.search(content), path
    assert "the image of s" in next(iter(made.quarantined.values()))
    assert re.fullmatch("s[0-9a-f]{12}", made.store.splits.test[0])
    assert made.store.cases["patient"].nunique() == 4
    assert made.store.name == "store"


def test_the_names_stay_beside_the_scans_for_their_owner_alone(scans, tmp_path):
    first = prepare(scans, tmp_path / "a", SMALL).store
    assert stat.S_IMODE((scans / ID_MAP).stat().st_mode) == 0o600
    known = json.loads((scans / ID_MAP).read_text())["cases"]
    assert {entry["case"] for entry in known.values()} == {f"{NAME}{i}" for i in (0, 1, 2, 3, 4, 5, 8, 9)}
    again = prepare(scans, tmp_path / "b", SMALL).store
    assert first.splits == again.splits
    (scans / ID_MAP).unlink()
    other = prepare(scans, tmp_path / "c", SMALL).store
    assert set(other.cases["case"]).isdisjoint(first.cases["case"]), "another salt"


def test_splits_are_those_of_the_names(scans, tmp_path):
    """A split file names cases as the lab does, and the same seed divides the same patients."""
    kept = prepare(scans, tmp_path / "kept", SMALL.model_copy(update={"keep_ids": True})).store
    hashed = prepare(scans, tmp_path / "hashed", SMALL).store
    names = {key: entry["case"] for key, entry in json.loads((scans / ID_MAP).read_text())["cases"].items()}
    for part, cases in vars(hashed.splits).items():
        assert sorted(names[case] for case in cases) == sorted(getattr(kept.splits, part))
    parts = {"train": [f"{NAME}0"], "validation": [f"{NAME}2"], "test": [f"{NAME}4"]}
    (tmp_path / "splits.json").write_text(json.dumps(parts))
    asked = SMALL.model_copy(update={"split_file": str(tmp_path / "splits.json")})
    assert [names[case] for case in prepare(scans, tmp_path / "d", asked).store.splits.test] == [f"{NAME}4"]


def test_a_store_does_not_mix_names_and_hashes(scans, tmp_path):
    prepare(scans, tmp_path / "store", SMALL)
    with pytest.raises(ValueError, match="ids='hashed' there, None now"):
        prepare(scans, tmp_path / "store", SMALL.model_copy(update={"keep_ids": True}))


def test_names_of_dicom_are_in_no_store(tmp_path):
    pytest.importorskip("pydicom")
    from tests.data.test_dicom import sphere_contours, write_series, write_structures

    for i in range(4):
        folder = tmp_path / "export" / f"{NAME}{i}"
        images = write_series(
            folder, f"{NAME}{i}", PatientName="Doe^Jane", ReferringPhysicianName="Doe^Jane", StudyID="Doe_Jane",
            PatientBirthDate="19700101", StudyDescription="CT of Jane Doe", AccessionNumber="Doe_Jane",
            RescaleIntercept=-1000 - i,
        )  # fmt: skip
        if i < 3:
            write_structures(folder / f"{NAME}.dcm", images, [("GTV", sphere_contours(images))])
    (tmp_path / "export" / f"{NAME}3" / "897.img").unlink()
    made = prepare(
        tmp_path / "export", tmp_path / "store", SMALL.model_copy(update={"image_size": 64, "quarantine": ()})
    )
    assert "the image of s" in next(iter(made.quarantined.values()))
    for path, content in contents(made.store.root):
        assert not PLANTED.search(content), path


@pytest.mark.parametrize("file", [".gitignore", ".rayignore", "cluster.yaml"])
def test_scans_stores_and_names_are_in_no_copy_of_the_code(file):
    text = (ROOT / file).read_text()
    for word in ("*.nii", "*.nii.gz", "*.dcm", "*.parquet", ID_MAP):
        assert word in text, f"{file} lets {word} pass"

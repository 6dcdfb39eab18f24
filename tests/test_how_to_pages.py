"""README leads to every page; the code of the pages on adding a layout and a study runs as it is printed."""

import re
import types

import nibabel as nib
import numpy as np
import pytest

from experiments.studies import STUDIES
from pixelglobal.data import layouts
from pixelglobal.data.phantom import make_phantom_cohort
from pixelglobal.data.prepare import prepare
from tests.support import ROOT


def module_of(page):
    """The module that a page tells to save."""
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "docs/how-to" / page).read_text(), re.DOTALL)
    module = types.ModuleType(page)
    exec(code, module.__dict__)
    return module


@pytest.mark.parametrize("kind", ["tutorial", "how-to", "reference", "explanation"])
def test_readme_leads_to_every_page(kind):
    text = (ROOT / "README.md").read_text()
    assert [p.name for p in (ROOT / "docs" / kind).glob("*.md") if f"docs/{kind}/{p.name}" not in text] == []


def test_the_layout_of_the_page_is_detected_and_read(tiny, tmp_path, monkeypatch):
    source = make_phantom_cohort(tmp_path / "phantom", n_patients=4, n_unlabelled=0, size=32, n_slices=4)
    for number, image in enumerate(sorted((source / "imagesTr").glob("*.nii.gz"))):
        scan = tmp_path / f"scans/scan_{number:03d}"
        scan.mkdir(parents=True)
        image.rename(scan / "ct.nii.gz")
        labels = nib.load(source / "labelsTr" / image.name)
        kept = np.minimum(np.asarray(labels.dataobj), 3).astype(np.uint8)
        nib.save(nib.Nifti1Image(kept, labels.affine), scan / "organs.nii.gz")
    with pytest.raises(ValueError, match="expected one of the layouts"):
        layouts.layout_of(tmp_path / "scans")
    monkeypatch.setitem(layouts.NAMED, "ourhospital", module_of("add-a-layout.md"))
    store = prepare(tmp_path / "scans", tmp_path / "store", tiny.prepare).store
    assert (store.name, store.structures) == ("Our hospital", ("Kidney", "Tumour", "Cyst"))
    assert set(store.cases["patient"]) == {f"scan_{number:03d}" for number in range(4)}


def test_the_study_of_the_page_runs_what_it_says(tiny, store, monkeypatch):
    study = module_of("add-a-study.md").STUDY
    monkeypatch.setitem(STUDIES, study.name, study)
    runs = study.runs(tiny, [store], seeds=(0, 1))
    assert {run.method for run in runs} == {"full", "faster"}
    bases = {run.method: run.config.methods["pixel_global"].ema_base for run in runs}
    assert bases["faster"] == 0.9 != bases["full"]
    assert study.contrasts[0].primary

"""The report's calibration is that of the evaluations, for every method."""

import numpy as np
import pandas as pd
import pytest

from experiments.report.calibration import calibration_pictures, calibration_tables
from experiments.report.palette import looks
from experiments.runner.pipeline import Pipeline
from experiments.selection import select
from pixelglobal.evaluation.calibration import Reliability, read_reliability, write_reliability

pytestmark = pytest.mark.usefixtures("figures_closed")


@pytest.fixture
def pipelines(finished_study) -> list[Pipeline]:
    return select(finished_study).all_pipelines


def test_bins_come_back_from_their_file(tmp_path):
    confidence = np.random.default_rng(0).uniform(0.3, 1, 500)
    bins = Reliability.of(confidence, confidence > 0.6)
    back = read_reliability(write_reliability(tmp_path / "reliability.csv", bins))
    for name, values in vars(bins).items():
        np.testing.assert_allclose(getattr(back, name), values)


def test_every_method_has_a_line_with_the_mean_of_its_runs(pipelines):
    [table] = calibration_tables(pipelines, "Calibration")
    assert table.frame["method"].tolist() == ["random", "full"]
    assert table.frame["runs"].tolist() == ["3", "3"]
    for method in ("random", "full"):
        files = [p.rows.with_name("calibration.csv") for p in pipelines if p.run.method == method]
        of_runs = [100 * pd.read_csv(file)["expected_calibration_error"].mean() for file in files]
        cell = table.frame.set_index("method").loc[method, "calibration error"]
        assert cell.startswith(f"{np.mean(of_runs):.1f} (")
    assert table.to_latex()
    assert "10 % would be chance" in table.to_markdown()


def test_the_figure_pools_the_bins_of_a_method(pipelines):
    methods = looks(["random", "full"])
    [picture] = calibration_pictures(pipelines, methods)
    curves = {line.get_label(): line for line in picture.figure.axes[0].lines}
    for method, look in methods.items():
        bins = [read_reliability(p.rows.with_name("reliability.csv")) for p in pipelines if p.run.method == method]
        together = bins[0] + bins[1] + bins[2]
        filled = together.count > 0
        np.testing.assert_allclose(curves[look.words].get_ydata(), together.right[filled] / together.count[filled])
        assert f"{look.words} {100 * together.expected_calibration_error:.1f} %" in picture.alt


def test_runs_of_older_versions_have_none(pipelines, tmp_path):
    class Old:
        run, rows = pipelines[0].run, tmp_path / "rows.parquet"

    assert calibration_tables([Old], "Calibration") == []
    assert calibration_pictures([Old], looks(["random"])) == []

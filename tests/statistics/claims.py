"""Rows that several tests of claims about methods share."""

import numpy as np

from experiments.bench.method_claims import Layout

# 3 methods x 4 runs x 5 patients, every variance component above 0.
TABLE = np.array(
    [
        [[75.9, 79.0, 71.3, 75.9, 76.5], [67.3, 64.1, 57.3, 62.9, 62.7],
         [73.9, 72.4, 62.3, 70.7, 68.4], [67.6, 70.6, 61.7, 67.4, 64.7]],
        [[72.9, 75.0, 66.5, 71.7, 72.2], [67.9, 63.6, 57.6, 65.9, 60.4],
         [74.8, 71.3, 66.6, 73.2, 67.1], [71.0, 71.1, 65.9, 70.7, 64.8]],
        [[70.7, 79.8, 70.6, 73.8, 75.3], [68.8, 69.2, 63.1, 68.2, 67.7],
         [73.8, 75.7, 68.8, 76.4, 72.7], [69.8, 72.0, 67.3, 70.6, 69.5]],
    ]
)  # fmt: skip


def rows_of(table):
    """A table [M, R, P] as the arguments of compare_methods."""
    m, r, p = (axis.ravel() for axis in np.indices(table.shape))
    return {
        "scores": table.ravel(),
        "methods": [chr(ord("a") + i) for i in m],
        "runs": r,
        "patients": [f"p{i}" for i in p],
    }


def normal_table(seed, n_methods=4, n_runs=4, n_patients=6):
    return Layout("any").draw(np.random.default_rng(seed), 1, n_methods, n_runs, n_patients)[0]

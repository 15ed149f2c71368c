"""Units that tell two sets of images apart."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score

from phyla.explain import apart, strongest_rows


def test_it_is_the_auroc_of_each_unit() -> None:
    rng = np.random.default_rng(0)
    A, B = (rng.integers(0, 5, (n, 6)).astype(np.float32) + shift for n, shift in ((40, np.arange(6)), (55, 2)))
    truth = np.repeat([1, 0], [40, 55])
    found = apart(A, B)
    for unit in range(6):
        assert abs(found[unit] - roc_auc_score(truth, np.concatenate([A, B])[:, unit])) < 1e-12
    np.testing.assert_allclose(apart(B, A), 1 - found)
    assert (apart(A, B[:0]) == 0.5).all()


def test_the_strongest_come_first_and_the_silent_never() -> None:
    assert strongest_rows(np.array([0.2, 0, 3, -1, 1]), 4).tolist() == [2, 4, 0]
    assert not len(strongest_rows(np.zeros(4), 2))
    many = np.random.default_rng(0).integers(-5, 9, 400)
    for n in (1, 7, 80, 399, 400, 500):
        order = np.argsort(-many, kind="stable")[:n]
        assert strongest_rows(many, n).tolist() == order[many[order] > 0].tolist()

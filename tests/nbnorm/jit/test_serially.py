"""Blocks in which kernels run in their serial form."""

import numpy as np
import pytest

from nbnorm.jit import kernel, prange, serially


@kernel
def double(x, y):
    """y = 2 x"""
    for i in prange(x.size):
        y[i] = 2 * x[i]


def test_serially(monkeypatch):
    forms = []
    monkeypatch.setattr(double, "parallel", lambda *_: forms.append("parallel"))
    monkeypatch.setattr(double, "serial", lambda *_: forms.append("serial"))
    x = np.ones(8)
    with serially():
        with serially():
            double(x, x)
        double.for_work(10**9)(x, x)
    double(x, x)
    with pytest.raises(KeyError), serially():
        raise KeyError
    double(x, x)
    assert forms == ["serial", "serial", "parallel", "parallel"]

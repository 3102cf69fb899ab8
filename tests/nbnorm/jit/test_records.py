"""Records of integers: what is written as a row is read as the NamedTuple that it was, for nothing."""

import doctest
from typing import NamedTuple

import numba
import numpy as np
import pytest

from nbnorm.jit import device, kernel, prange, records
from nbnorm.jit.records import record, row_of, size_of
from nbnorm.simd.memory import flat, item


class Plane(NamedTuple):
    height: int
    width: int


class Plan(NamedTuple):
    images: int
    source: Plane
    fetches: bool
    target: Plane
    workers: int


class Named(NamedTuple):
    name: str


plan_of, target_of, later_plane_of = record(Plan), record(Plane, 4), record(Plane, size_of(Plan))


@device
def _area(plane):
    return plane.height * plane.width


@kernel
def read_all(table, result):
    row = flat(table)
    plan, later = plan_of(row), later_plane_of(row)
    result[0], result[1], result[2] = plan.images, plan.source.height, plan.source.width
    result[3], result[4], result[5] = 10 if plan.fetches else 20, plan.target.height, plan.target.width
    result[6], result[7] = plan.workers, later.height
    for i in prange(1):
        result[8 + i] = _area(plan_of(row).source) + target_of(row).width


@kernel
def sum_by_name(table, result):
    plan = plan_of(flat(table))
    total = plan.images
    for _ in range(plan.workers):
        total = total * plan.source.width + plan.target.height
    result[0] = total


@kernel
def sum_by_index(table, result):
    row = flat(table)
    images, width, height, workers = item(row, 0), item(row, 2), item(row, 4), item(row, 6)
    total = images
    for _ in range(workers):
        total = total * width + height
    result[0] = total


PLAN = Plan(3, Plane(5, 7), True, Plane(11, 13), 17)


@pytest.mark.parametrize("form", ["serial", "parallel"])
def test_a_kernel_reads_by_name_what_was_written(form):
    row, result = row_of(PLAN, np.array([23, 29])), np.zeros(9, np.int64)
    assert row.dtype == np.int64
    getattr(read_all, form)(row, result)
    np.testing.assert_array_equal(result, [3, 5, 7, 10, 11, 13, 17, 23, 48])
    getattr(read_all, form)(row_of(PLAN._replace(fetches=False), np.array([23, 29])), result)
    assert result[3] == 20


def test_sizes_count_what_is_inside():
    assert (size_of(Plane), size_of(Plan)) == (2, 7)
    assert row_of(PLAN).size == 7


def test_other_fields_are_refused():
    with pytest.raises(TypeError, match=r"Named\.name: expected int, bool or a NamedTuple"):
        record(Named)


def test_names_are_free():
    """Read by name or by index, it is the same code: as many instructions, and nothing is called."""
    texts = []
    for function in (sum_by_name.function, sum_by_index.function):
        compiled = numba.njit(error_model="numpy", no_cfunc_wrapper=True)(function)
        compiled(row_of(PLAN), np.zeros(1, np.int64))
        (text,) = compiled.inspect_llvm().values()
        texts.append(text[text.index("define ") : text.index("\n}\n")])
    by_name, by_index = texts
    assert "call" not in by_name
    assert abs(by_name.count("\n") - by_index.count("\n")) <= 2


def test_examples():
    assert doctest.testmod(records).failed == 0

"""The memory planner: nothing that lives together overlaps, and little is wasted."""

from hypothesis import given
from hypothesis import strategies as st

from minitrain.compile.memory import ALIGNMENT, Lifetime, place

lifetimes = st.lists(
    st.builds(
        lambda size, first, length: Lifetime(size, first, first + length),
        st.integers(0, 5000),
        st.integers(0, 30),
        st.integers(0, 10),
    ),
    max_size=40,
)


@given(lifetimes)
def test_what_lives_together_does_not_overlap(buffers):
    offsets, total = place(buffers)
    for i, (a, at) in enumerate(zip(buffers, offsets, strict=True)):
        assert at % ALIGNMENT == 0
        assert 0 <= at <= at + a.size <= total
        for b, bt in zip(buffers[:i], offsets, strict=False):
            if a.first <= b.last and b.first <= a.last:
                assert at + a.size <= bt or bt + b.size <= at


@given(lifetimes)
def test_needs_no_more_than_everything_side_by_side(buffers):
    assert place(buffers)[1] <= sum(each.size + ALIGNMENT - 1 for each in buffers)


def test_a_chain_takes_the_place_of_two():
    chain = [Lifetime(1024, step, step + 1) for step in range(10)]
    assert place(chain)[1] == 2 * 1024


def test_places_into_a_gap():
    buffers = [Lifetime(4096, 0, 0), Lifetime(2048, 0, 9), Lifetime(1024, 5, 9)]
    offsets, total = place(buffers)
    assert total == 4096 + 2048
    assert offsets[2] < total


def test_no_buffers():
    assert place([]) == ([], 0)

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdfeed._stats import Histogram

NS = st.integers(-5, 80_000_000_000)


def filled(records: list[int]) -> Histogram:
    histogram = Histogram()
    for ns in records:
        histogram.observe(ns)
    return histogram


@given(st.lists(NS, min_size=1), st.floats(0, 1))
def test_figures_agree_with_the_sorted_records(records: list[int], q: float) -> None:
    histogram = filled(records)
    ordered = sorted(max(ns, 0) for ns in records)
    assert histogram.count == len(records)
    assert histogram.sum_ns == sum(ordered)
    assert (histogram.min_ns, histogram.max_ns) == (ordered[0], ordered[-1])
    true = ordered[max(0, -int(-q * len(ordered) // 1) - 1)]
    if true < 1 << 36:
        assert abs(histogram.quantile(q) - true) <= true / 16
    else:
        assert histogram.quantile(q) == ordered[-1]


@given(st.lists(NS), st.lists(st.integers(0, 80_000_000_000), min_size=1).map(sorted))
def test_cumulative_counts_err_by_a_bucket_at_most(records: list[int], bounds: list[int]) -> None:
    counts = filled(records).buckets(bounds)
    assert counts == sorted(counts)
    for bound, count in zip(bounds, counts, strict=True):
        assert count <= sum(ns <= bound for ns in records)
        if bound < 1 << 36:
            assert count >= sum(ns < bound * 15 / 16 for ns in records)
    assert filled(records).buckets([1 << 62]) == [len(records)]


@given(st.lists(NS), st.lists(NS))
def test_merging_is_recording_both(left: list[int], right: list[int]) -> None:
    merged = filled(left)
    merged.merge(filled(right))
    both = filled(left + right)
    bounds = [1 << n for n in range(40)]
    assert merged.buckets(bounds) == both.buckets(bounds)
    assert (merged.sum_ns, merged.min_ns, merged.max_ns) == (both.sum_ns, both.min_ns, both.max_ns)


def test_many_at_once_and_reset() -> None:
    histogram = Histogram()
    assert (histogram.quantile(0.5), histogram.min_ns, histogram.max_ns) == (0, 0, 0)
    histogram.observe(1 << 62, 1_000)
    assert histogram.sum_ns == 1_000 << 62
    histogram.reset()
    assert (histogram.count, histogram.sum_ns, histogram.max_ns) == (0, 0, 0)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="quantile"):
        Histogram().quantile(1.5)
    with pytest.raises(ValueError, match="at least 1"):
        Histogram().observe(1, 0)

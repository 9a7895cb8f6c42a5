"""Counting without cost: the latency histogram (the 24 h window is _window's).

Answers for: quantiles within 6.25 %, sums and extremes exact, cumulative counts as Prometheus wants them. Refuses to
know: clocks, and what is measured.
"""

from collections.abc import Sequence

from libc.string cimport memset

from mdfeed._text cimport int_of_wide

cdef extern from *:
    int leading_zeros "__builtin_clzll"(unsigned long long) noexcept nogil

cdef enum:
    OVERFLOW = BUCKETS - 1

cdef int64_t LARGEST = 9223372036854775807


cdef inline int bucket_of(int64_t ns) noexcept nogil:
    cdef int power
    if ns < 16:
        return <int>ns
    power = 63 - leading_zeros(<unsigned long long>ns)
    if power > 35:
        return OVERFLOW
    return (power - 3) * 16 + <int>((ns >> (power - 4)) & 15)


cdef inline int64_t lower_edge(int bucket) noexcept nogil:
    if bucket < 16:
        return bucket
    return (16 + <int64_t>(bucket & 15)) << ((bucket >> 4) - 1)


cdef class Histogram:
    """Latencies in nanoseconds: 16 steps in each power of two up to 68.7 s, then one overflow bucket; 4 KB."""

    def __cinit__(self) -> None:
        self.reset()

    cdef void record(self, int64_t ns) noexcept nogil:
        if ns < 0:
            ns = 0
        self._counts[bucket_of(ns)] += 1
        self.count += 1
        self._sum += ns
        if ns < self._min:
            self._min = ns
        if ns > self._max:
            self._max = ns

    cdef void record_n(self, int64_t ns, int64_t n) noexcept nogil:
        if ns < 0:
            ns = 0
        self._counts[bucket_of(ns)] += n
        self.count += n
        self._sum += <i128>ns * n
        if ns < self._min:
            self._min = ns
        if ns > self._max:
            self._max = ns

    def observe(self, ns: int, n: int = 1) -> None:
        """Records `n` (1 or more) times `ns` nanoseconds; negative ones count as 0."""
        if n < 1:
            raise ValueError("n is at least 1")
        if n == 1:
            self.record(ns)
        else:
            self.record_n(ns, n)

    def reset(self) -> None:
        """Forgets everything."""
        memset(self._counts, 0, sizeof(self._counts))
        self.count = 0
        self._sum = 0
        self._min = LARGEST
        self._max = 0

    def merge(self, Histogram other) -> None:
        """Adds everything that `other` has recorded."""
        for i in range(BUCKETS):
            self._counts[i] += other._counts[i]
        self.count += other.count
        self._sum += other._sum
        self._min = min(self._min, other._min)
        self._max = max(self._max, other._max)

    @property
    def sum_ns(self) -> int:
        """Sum of all records, exact."""
        return int_of_wide(self._sum)

    @property
    def min_ns(self) -> int:
        """The smallest record, exact; 0 while there is none."""
        return self._min if self.count else 0

    @property
    def max_ns(self) -> int:
        """The largest record, exact; 0 while there is none."""
        return self._max

    def quantile(self, q: float) -> int:
        """The record at or below which a share `q` (0 to 1) of all lies, in ns, within 6.25 %; 0 if there is none."""
        cdef int64_t seen = 0
        cdef int64_t rank
        cdef int64_t width
        cdef int i
        if not 0 <= q <= 1:
            raise ValueError(f"a quantile is between 0 and 1: {q}")
        if not self.count:
            return 0
        rank = max(1, -int(-q * self.count // 1))
        for i in range(OVERFLOW):
            if seen + self._counts[i] >= rank:
                width = lower_edge(i + 1) - lower_edge(i)
                value = lower_edge(i) + width * (rank - seen) // (self._counts[i] + 1)
                return min(max(value, self._min), self._max)
            seen += self._counts[i]
        return self._max

    def buckets(self, bounds_ns: Sequence[int]) -> list[int]:
        """For each of the ascending bounds, how many records are at or below it, as Prometheus wants them.

        A bound that is no bucket's edge counts up to the edge below it: at most 6.25 % of the bound too low.
        """
        cdef int64_t seen = 0
        cdef int i = 0
        counts = []
        for bound in bounds_ns:
            while i < OVERFLOW and lower_edge(i + 1) - 1 <= bound:
                seen += self._counts[i]
                i += 1
            counts.append(seen if bound < self._max else self.count)
        return counts

# The daemon's clocks in C.

from libc.stdint cimport int64_t

cdef int64_t mono_ns() noexcept nogil   # CLOCK_MONOTONIC
cdef int64_t utc_ns() noexcept nogil    # UTC that runs on a steady clock and never steps back

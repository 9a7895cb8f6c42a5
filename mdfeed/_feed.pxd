# The sans-I/O heart's C contract: what the lines call. The clock is an argument everywhere.

from mdfeed._types cimport *
from mdfeed._stats cimport Histogram


cdef class Feed:
    cdef readonly Histogram processing          # start of a frame's turn -> its bytes ready; the lines record it
    cdef readonly Histogram receive_to_write    # socket read -> the sinks' write returned; the lines record it

    # One whole text frame of one line. Borrowed for the call. `capacity`: readable bytes from data on.
    # Never raises; returns the frame's status for those who count.
    cdef Status receive_raw(self, int32_t line, const char *data, Py_ssize_t size, Py_ssize_t capacity,
                            int64_t recv_ns) noexcept

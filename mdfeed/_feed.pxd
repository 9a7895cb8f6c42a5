# The sans-I/O heart's C contract: what the lines call. The clock is an argument everywhere.

from mdfeed._parse cimport Decoder, Instruments
from mdfeed._publish cimport Publisher
from mdfeed._recall cimport Recall
from mdfeed._slots cimport HEARD
from mdfeed._stats cimport Histogram
from mdfeed._sync cimport Budget
from mdfeed._track cimport MUTE_FEW, Track
from mdfeed._trust cimport Source
from mdfeed._types cimport *


cdef class Feed:
    cdef readonly str venue                     # its name
    cdef readonly Instruments instruments
    cdef readonly Publisher publisher
    cdef readonly Budget budget
    cdef readonly dict tracks                   # symbol -> Track
    cdef readonly object fuse
    cdef readonly int32_t snapshot_limit
    cdef readonly int32_t first_limit
    cdef public Recall recall                   # newest raw frames, None: not kept
    cdef readonly object testimonies            # deque of Evidence, oldest first; the world takes them
    cdef readonly int64_t frame_bytes
    cdef readonly tuple last_bad                # (why, excerpt, recv_ns) of the newest frame that did not decode
    cdef readonly Histogram processing          # start of a frame's turn -> its bytes ready; the lines record it
    cdef readonly Histogram receive_to_write    # socket read -> the sinks' write returned; the lines record it
    cdef int32_t _patience
    cdef Decoder _decoder
    cdef list _by_index                         # Track of each instrument index
    cdef int32_t _max_levels
    cdef int64_t _audit_ns
    cdef int32_t _line_count
    cdef dict _line_names
    cdef int64_t _kinds[13]
    cdef int64_t _whys[16]
    cdef int64_t _bad_told_ns
    cdef int64_t _clock_offset_ns
    cdef int64_t _least_delay_ns                # receipt less event time, uncorrected, since it was taken last
    cdef int64_t _heard[HEARD]                  # newest frame of each line, by its number modulo HEARD
    cdef dict _races                            # line's name -> Race of its ended connections

    # One whole text frame of one line. Borrowed for the call. `capacity`: readable bytes from data on.
    # Never raises; returns the frame's status for those who count.
    cdef Status receive_raw(self, int32_t line, const char *data, Py_ssize_t size, Py_ssize_t capacity,
                            int64_t recv_ns) noexcept

    cdef object _race(self, int32_t line, race)
    cdef Status _decode(self, const char *data, Py_ssize_t size, Py_ssize_t capacity, Message *message) noexcept
    cdef Status _grow_digits(self, const Message *message) noexcept
    cdef Status _feed_held(self, Track track) noexcept
    cdef void _tell_bad(self, int32_t line, bytes excerpt, const Message *message, int64_t recv_ns) noexcept
    cdef void _testify(self, Track track, int64_t recv_ns) noexcept
    cdef void _seat_by_partial(self, Track track, Message *message, int64_t recv_ns) noexcept
    cdef str _join(self, Track track, Message *message, int32_t limit, Source source, int64_t recv_ns)
    cdef str _shade(self, Track track, Message *message, int32_t limit, Source source, int64_t recv_ns)

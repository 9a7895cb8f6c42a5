# How often one stream of one symbol speaks, learned as it goes: how long may it be silent before that is odd?
# No module stands behind it.

from libc.stdint cimport int64_t

cdef enum:
    PULSE_LEARNED = 20      # frames before a stream's own pace counts


cdef struct Pulse:
    int64_t last_ns         # newest frame, 0 before the first
    int64_t frames
    double mean_ns          # between frames, over the last twenty or so
    double peak_ns          # the longest pause, slowly forgotten: trades come in bursts


cdef inline void beat(Pulse *pulse, int64_t now_ns) noexcept nogil:
    cdef double step = <double>(now_ns - pulse.last_ns)
    if pulse.last_ns and step > 0:
        pulse.mean_ns += (step - pulse.mean_ns) / <double>min(pulse.frames, <int64_t>PULSE_LEARNED)
        pulse.peak_ns = max(step, pulse.peak_ns * 0.999)
    pulse.last_ns = now_ns
    pulse.frames += 1


# The pause that follows was an outage's, and says nothing about the pace.
cdef inline void pause_beat(Pulse *pulse) noexcept nogil:
    pulse.last_ns = 0


# True when a stream that has shown its pace is silent for longer than that explains, and than `least_ns`.
cdef inline bint is_odd_silence(const Pulse *pulse, int64_t now_ns, int64_t least_ns) noexcept nogil:
    cdef double silence_ns = <double>(now_ns - pulse.last_ns)
    return (pulse.frames >= PULSE_LEARNED and silence_ns > least_ns
            and silence_ns > 10 * pulse.mean_ns and silence_ns > 2 * pulse.peak_ns)

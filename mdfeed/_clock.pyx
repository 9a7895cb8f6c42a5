"""The daemon's clock: UTC nanoseconds that run on a monotonic clock, and follow the wall clock slowly.

A wall clock that steps back would make fresh frames look old and waits endless; one that steps ahead would make every
book look silent. So the wall clock is read once, and what it is off later is caught up by running slower or faster:
0.05 % for less than 128 ms, 10 % for more. Only a wall clock more than an hour ahead (a machine that had no time when
it started) is taken over at once. One for the process, for times of different parts are compared.
"""

from libc.errno cimport errno
from libc.string cimport strerror
from posix.time cimport CLOCK_MONOTONIC, CLOCK_REALTIME, clock_gettime, clockid_t, timespec

cdef extern from *:
    """
    #include <time.h>
    #ifdef CLOCK_BOOTTIME
    #define MDFEED_STEADY CLOCK_BOOTTIME
    #else
    #define MDFEED_STEADY CLOCK_MONOTONIC
    #endif
    #ifdef __linux__
    #include <sys/timerfd.h>
    #include <unistd.h>
    static int mdfeed_timer_every(time_t s, long ns) {
        struct itimerspec every = {{s, ns}, {s, ns}};
        int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
        if (timer < 0)
            return -2;
        if (timerfd_settime(timer, 0, &every, NULL) != 0) {
            close(timer);
            return -2;
        }
        return timer;
    }
    #else
    static int mdfeed_timer_every(time_t s, long ns) { (void)s; (void)ns; return -1; }
    #endif
    """
    int timer_every "mdfeed_timer_every"(int64_t s, int64_t ns)
    # Monotonic, and goes on while the machine sleeps: CLOCK_MONOTONIC does so everywhere but on Linux.
    clockid_t STEADY "MDFEED_STEADY"

cdef int64_t SMALL_NS = 128_000_000
cdef int64_t LEAP_NS = 3_600_000_000_000
cdef int64_t SLEW_NS = 10_000_000_000       # what one look at the wall clock is good for
cdef int64_t SMALL_PPM = 500
cdef int64_t LARGE_PPM = 100_000

cdef struct Slew:
    int64_t base_steady_ns
    int64_t base_utc_ns
    int64_t ppm                 # how much faster than the steady clock

cdef Slew _own                  # the process's


cdef inline int64_t read(clockid_t clock) noexcept nogil:
    cdef timespec now
    clock_gettime(clock, &now)
    return <int64_t>now.tv_sec * 1_000_000_000 + now.tv_nsec


cdef inline int64_t utc_at(const Slew *slew, int64_t steady_ns) noexcept nogil:
    cdef int64_t passed_ns = steady_ns - slew.base_steady_ns
    return slew.base_utc_ns + passed_ns + min(passed_ns, SLEW_NS) * slew.ppm // 1_000_000


cdef int64_t follow_wall(Slew *slew, int64_t wall_ns, int64_t steady_ns) noexcept nogil:
    cdef int64_t utc = utc_at(slew, steady_ns)
    cdef int64_t error_ns = wall_ns - utc
    cdef int64_t most_ppm = SMALL_PPM if -SMALL_NS < error_ns < SMALL_NS else LARGE_PPM
    slew.base_steady_ns = steady_ns
    if error_ns > LEAP_NS:
        slew.base_utc_ns = wall_ns
        slew.ppm = 0
    else:
        slew.base_utc_ns = utc
        slew.ppm = max(-most_ppm, min(most_ppm, error_ns // 1000))      # even within a second, if that may be
    return error_ns


cdef int64_t mono_ns() noexcept nogil:
    return read(CLOCK_MONOTONIC)


cdef int64_t utc_ns() noexcept nogil:
    return utc_at(&_own, read(STEADY))


def now_ns():
    """UTC ns by this clock."""
    return utc_ns()


def ahead_of_steady_ns():
    """This clock less the machine's steady one: by how much that changes, this clock was corrected."""
    cdef int64_t steady_ns = read(STEADY)
    return utc_at(&_own, steady_ns) - steady_ns


def follow(wall_ns=None):
    """Look at the wall clock (or at `wall_ns`), once a second or so; returns ns that it is ahead of this clock."""
    return follow_wall(&_own, read(CLOCK_REALTIME) if wall_ns is None else wall_ns, read(STEADY))


cdef class SlewedClock:
    """The same clock on a steady and a wall clock that are given, ns both: what the process's does, on virtual time."""

    cdef Slew _slew

    def __init__(self, int64_t wall_ns, int64_t steady_ns):
        self._slew = Slew(steady_ns, wall_ns, 0)

    def now_ns(self, int64_t steady_ns):
        """UTC ns by this clock."""
        return utc_at(&self._slew, steady_ns)

    def follow(self, int64_t wall_ns, int64_t steady_ns):
        """Look at the wall clock, once a second or so; returns ns that it is ahead of this clock."""
        return follow_wall(&self._slew, wall_ns, steady_ns)


def open_timer(int64_t period_ns):
    """A descriptor that becomes readable every `period_ns` (8 bytes to read), for loops whose timers are too coarse.

    -1 where the system has none (macOS). The caller closes it. OSError when there are too many.
    """
    cdef int timer = timer_every(period_ns // 1_000_000_000, period_ns % 1_000_000_000)
    if timer == -2:
        raise OSError(errno, strerror(errno).decode())
    return timer


_own = Slew(read(STEADY), read(CLOCK_REALTIME), 0)

"""The receiving end of one WebSocket connection: frames of a socket read go to the heart, then one flush of the sinks.

Answers for the receive clock (one value for all frames of a read), both latency histograms, PING and CLOSE, fragments
and size limits, and for letting no exception out of a callback. Knows no URL, no reconnecting, and of the payload
only where a stream's name stands.
"""

import asyncio
import logging

from picows.picows cimport WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport
from mdfeed._clock cimport mono_ns, utc_ns
from mdfeed._feed cimport Feed
from mdfeed._types cimport *

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 16 * 1024 * 1024

# A stream's name stands within the first bytes of a frame, an answer to a request is short.
cdef enum:
    HEAD_BYTES = 128
    REPLY_BYTES = 4096
    # picows keeps this many readable bytes behind whatever it has received (its MemoryBuffer).
    PICOWS_TAIL = 256
    # A read that takes longer than this is flushed on the way: a burst comes as megabytes in one read (picows'
    # buffer grows with what it finds), and the first frames should not wait for the last.
    FLUSH_WITHIN_NS = 1_000_000

CLOSE_REASONS = {0: "closed", 1000: "closed", 1001: "closed", 1005: "closed", 1008: "policy"}


cdef class Line(WSListener):
    """One connection's frames, from the socket read to `receiver` and `flush`.

    `receiver` is a Feed (called in C), or any object with `receive(line, frame: bytes, recv_ns)`, such as a recorder.
    `flush()` is called once a socket read, after its last frame. `streams` are the names that should appear;
    `unseen` shrinks as they do. `marker` is what precedes the stream's name in a frame. `on_reply(frame)` gets
    short frames without the marker while `expects_replies` is set. Must be made inside a running loop.
    """

    def __init__(self, receiver, int32_t line, flush, *, streams=(), on_reply=None, bytes marker=b'"stream":"',
                 Py_ssize_t max_bytes=MAX_MESSAGE_BYTES):
        self.line = line
        if isinstance(receiver, Feed):
            self._feed = receiver
        else:
            self._receive = receiver.receive
        self._flush = flush
        self._on_reply = on_reply
        self._loop = asyncio.get_running_loop()
        self._max_bytes = max_bytes
        self._unseen = set(streams)
        self._marker = marker
        self.over = self._loop.create_future()
        self._read_mono_ns = mono_ns()

    @property
    def unseen(self):
        """Names of the streams that have not shown a frame yet."""
        return frozenset(self._unseen)

    @property
    def silence_s(self):
        """Seconds since the newest complete frame of any kind, or since this was made."""
        return (mono_ns() - self._read_mono_ns) / 1e9

    def end(self, str reason, str detail):
        """Takes no frame any more and resolves `over`. The first reason stands."""
        if self.reason is None:
            self.reason = reason
            self.detail = detail
            self._fragments = None
        if not self.over.done():
            self.over.set_result(None)

    def hang_up(self):
        """Ends picows' connection from here: for a caller who never got hold of it."""
        self.end("stopped", "closed by us")
        if self._transport is not None:
            self._transport.send_close(WSCloseCode.OK)
            self._transport.disconnect()

    # --- picows calls these

    cpdef on_ws_connected(self, WSTransport transport):
        self._transport = transport

    cpdef on_ws_frame(self, WSTransport transport, WSFrame frame):
        cdef int code
        try:
            if not self._is_reading:
                self._begin()
                if not frame.last_in_buffer:
                    self._arm()
            if self.reason is not None:
                pass
            elif frame.msg_type <= WSMsgType.BINARY:
                code = self._accept(frame.msg_type, frame.fin, frame.rsv1 or frame.rsv2 or frame.rsv3,
                                    frame.payload_ptr, frame.payload_size, frame.payload_size + PICOWS_TAIL)
                if code != 0:
                    self._fail(transport, code)
            else:
                self._on_control(transport, frame)
        except Exception as exc:
            log.exception("line %d: a frame could not be handled", self.line)
            self.end("error", f"a frame could not be handled: {exc!r}")
        if frame.last_in_buffer:
            self._end()

    cpdef on_ws_disconnected(self, WSTransport transport):
        self._transport = None
        sent = transport.close_handshake.sent if transport.close_handshake is not None else None
        if sent is not None and sent.code != WSCloseCode.OK and self.reason is None:
            # picows' own parser has refused the peer's bytes.
            self.end("protocol", f"the venue broke the protocol: {int(sent.code)} {sent.reason}")
        self.end("reset", "the connection ended without a close handshake")

    cpdef pause_writing(self):
        pass        # what is written here are PONGs and a few requests: nothing to hold back

    cpdef resume_writing(self):
        pass

    cdef object _on_control(self, WSTransport transport, WSFrame frame):
        if frame.msg_type == WSMsgType.PING:
            self.pings += 1
            transport.send_pong(frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.CLOSE:
            code = frame.get_close_code()
            self.end_by_close(int(code), frame.get_close_reason() or "")
            if not transport.is_close_frame_sent:
                transport.send_close(code if code != WSCloseCode.NO_INFO else WSCloseCode.OK)
            transport.disconnect()

    def _fail(self, WSTransport transport, int code):
        self.end_by_protocol(code)
        transport.send_close(<WSCloseCode>code)
        transport.disconnect()

    # --- the websockets transport calls these

    def begin_read(self):
        """A socket read has arrived: stamps the clocks. `end_read` follows."""
        self._begin()

    def end_read(self, frames):
        """Delivers a read's complete frames (websockets.frames.Frame) and flushes.

        Returns 0, or the close code with which the connection has to be failed.
        """
        cdef int opcode, code = 0
        cdef bytes data
        try:
            for frame in frames:
                opcode = frame.opcode
                if self.reason is not None:
                    break
                if opcode <= 2:
                    data = bytes(frame.data)    # already bytes: no copy
                    code = self._accept(opcode, frame.fin, frame.rsv1 or frame.rsv2 or frame.rsv3, data, len(data),
                                        len(data) + 1)
                    if code != 0:
                        self.end_by_protocol(code)
                elif opcode == 9:
                    self.pings += 1
        except Exception as exc:
            log.exception("line %d: a frame could not be handled", self.line)
            self.end("error", f"a frame could not be handled: {exc!r}")
        self._end()
        return code

    # --- how it ends

    def end_by_close(self, int code, str text):
        """The venue has sent CLOSE with this code."""
        self.end(CLOSE_REASONS.get(code, "close_code"), f"closed by the venue: {code} {text}".rstrip())

    def end_by_protocol(self, int code):
        """The venue's bytes are not what RFC 6455 allows here; `code` is what it is told."""
        text = f"a message above {self._max_bytes} bytes" if code == 1009 else "fragments or reserved bits out of place"
        self.end("protocol", f"the venue broke the protocol: {text}")

    def _complain(self, str what):
        # Inside an except clause. A fault that every frame meets fills no log.
        self.failures += 1
        if self.failures <= 3 or self.failures % 10_000 == 0:
            log.exception("line %d: %s (failure %d)", self.line, what, self.failures)

    # --- one read

    def _arm(self):
        # The net: picows marks the last frame of a read; should it ever not, the flush still comes this iteration.
        if not self._is_armed:
            self._is_armed = True
            self._loop.call_soon(self._catch)

    def _catch(self):
        self._is_armed = False
        if self._is_reading:
            self._end()

    cdef void _begin(self) noexcept:
        self._is_reading = True
        self.reads += 1
        self._read_frames = 0
        self._read_ns = utc_ns()
        self._read_mono_ns = self._flushed_mono_ns = mono_ns()

    cdef void _end(self) noexcept:
        self._is_reading = False
        if self._read_frames > 0:
            self._write()

    cdef void _write(self) noexcept:
        try:
            self._flush()
        except Exception:
            self._complain("the sinks could not be flushed")
        self._flushed_mono_ns = mono_ns()
        if self._feed is not None:
            self._feed.receive_to_write.record_n(self._flushed_mono_ns - self._read_mono_ns, self._read_frames)
        self._read_frames = 0

    cdef int _accept(self, int opcode, bint fin, bint has_rsv, const char *data, Py_ssize_t size,
                     Py_ssize_t capacity) except -1:
        # A data frame: 0, or the close code that it earns. RFC 6455 5.4 (fragments), 5.2 (reserved bits: no
        # extension was offered, so none may be set).
        cdef bytearray whole
        if has_rsv or (opcode == 0) != (self._fragments is not None):
            return 1002
        if size > self._max_bytes - (len(self._fragments) if opcode == 0 else 0):
            return 1009
        if fin and opcode != 0:
            self._deliver(data, size, capacity)
        elif opcode != 0:
            self._fragments = bytearray(data[:size])
        else:
            self._fragments += data[:size]
            if fin:
                whole = self._fragments
                self._fragments = None
                self._deliver(whole, len(whole), len(whole) + 1)
        return 0

    cdef void _deliver(self, const char *data, Py_ssize_t size, Py_ssize_t capacity) noexcept:
        cdef int64_t start_ns = mono_ns()
        cdef int64_t end_ns
        self.frames += 1
        self.payload_bytes += size
        self.last_frame_ns = self._read_ns
        self._read_frames += 1
        if self.expects_replies or self._unseen:
            self._look(data, size)
        if self._feed is not None:
            self._feed.receive_raw(self.line, data, size, capacity, self._read_ns)
            end_ns = mono_ns()
            self._feed.processing.record(end_ns - start_ns)
        else:
            try:
                self._receive(self.line, data[:size], self._read_ns)
            except Exception:
                self._complain("the receiver failed")
            end_ns = mono_ns()
        if end_ns - self._flushed_mono_ns > FLUSH_WITHIN_NS:
            self._write()

    cdef void _look(self, const char *data, Py_ssize_t size) noexcept:
        cdef bytes head = data[:min(size, HEAD_BYTES)]
        cdef Py_ssize_t start = head.find(self._marker)
        try:
            if start >= 0:
                start += len(self._marker)
                self._unseen.discard(head[start:head.find(b'"', start)].decode(errors="replace"))
            elif self.expects_replies and size <= REPLY_BYTES:
                self._on_reply(data[:size])
        except Exception:
            self._complain("a reply could not be read")

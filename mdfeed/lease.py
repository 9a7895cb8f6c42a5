"""Leases: never two daemons that publish one symbol to one Redis.

Answers for: holding `mdfeed:lease:{SYM}` (3 s to live, renewed every second) on a connection of its own, opening the
valve for what is held and for as long as it surely is, taking over from a process that is dead, giving up at the start
when another is alive. Refuses to know: what is published, and by which connection.

A holder writes who it is: machine, pid namespace, pid, the pid's start time, and a random part. One of this machine
and namespace whose pid is gone (or is another process by now) is dead, and is taken over at once: that is the
restart after `kill -9`. Any other holder is believed until its lease runs out.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Callable, Collection, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as NoAnswer
from redis.retry import Retry

from mdfeed._clock import now_ns
from mdfeed._valve import Valve
from mdfeed.config import mask
from mdfeed.errors import MdfeedError
from mdfeed.sentinel import client_of

# RuntimeError is uvloop's word for a socket that was reset while redis-py still writes to it ("the handler is closed").
FAR_SIDE = (RedisError, OSError, TimeoutError, RuntimeError)

log = logging.getLogger(__name__)

PREFIX = "mdfeed:lease:"
TTL_MS = 3000
RENEW_S = 1.0
TIMEOUT_S = 0.8  # for Redis to answer; a renewal fits twice into a lease
RETRY_S = 0.2  # while a lease is missing, or Redis does not answer
PATIENCE_S = 5.0  # at the start, with another holder there
# For each key. Ours: expire anew, which a server that is out of memory takes too. Free: take it. Held by the one we
# know to be dead, or by whomever when asked to take over: take it. Answers the holder that stands in the way, else an
# empty text.
ACQUIRE = """
local others = {}
for i, key in ipairs(KEYS) do
  local held = redis.call('GET', key)
  if held and held ~= ARGV[1] and held ~= ARGV[3 + i] and ARGV[3] ~= '1' then
    others[i] = held
  else
    if held ~= ARGV[1] or redis.pcall('PEXPIRE', key, ARGV[2]) ~= 1 then
      redis.call('SET', key, ARGV[1], 'PX', ARGV[2])
    end
    others[i] = ''
  end
end
return others
"""
RELEASE = """
for i, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[1] then redis.call('DEL', key) end
end
return 0
"""


class Leases:
    """The leases of `symbols()`. `run` holds them; it ends only with MdfeedError: another holds one at the start.

    `index_of` gives the valve's index of a symbol, `on_open` is told the symbols that may be published (again). The
    leases of `departed` symbols are held as well, unless they are another's: then they are struck out there.
    """

    def __init__(
        self,
        url: str,
        valve: Valve,
        symbols: Callable[[], Collection[str]],
        index_of: Callable[[str], int],
        on_open: Callable[[list[str]], None],
        departed: MutableMapping[str, Any] | None = None,
        *,
        takeover: bool = False,
        token: str | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.token = token or f"{whoami()} {secrets.token_hex(8)}"
        # Symbol -> who holds it instead of us.
        self.others: dict[str, str] = {}
        self.held: set[str] = set()
        self.is_started = False  # every lease was ours once
        self._url = url
        self._valve = valve
        self._symbols = symbols
        self._index_of = index_of
        self._on_open = on_open
        self._departed: MutableMapping[str, Any] = {} if departed is None else departed
        self._takeover = takeover
        self._patience_s = patience_s
        self._kicked = asyncio.Event()
        self._trouble = ""
        self._until_ns = 0  # when the leases end that were asked for last
        self._is_doubted = False
        self._client = client_of(
            url,
            # The whole round has a timeout of its own. A socket_timeout would make redis-py use asyncio.wait_for,
            # which in Python 3.11 can swallow a cancellation.
            socket_timeout=None,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            client_name="mdfeed-lease",
        )

    def doubt(self) -> None:
        """The server was away and may have forgotten: nothing passes until the leases are confirmed, at once."""
        self._valve.shut_all()
        self.held.clear()
        self._is_doubted = True
        self._kicked.set()

    def begin(self, symbols: Collection[str]) -> None:
        """These were added (again): ask for their leases at once."""
        for symbol in symbols:
            self.held.discard(symbol)
            self.others.pop(symbol, None)
            self._valve.begin(self._index_of(symbol))
        self._kicked.set()

    def reasons(self) -> list[str]:
        """What keeps us from publishing, for /ready."""
        reasons = [f"{symbol}: the lease is held by {shown(holder)}" for symbol, holder in self.others.items()]
        missing = [symbol for symbol in self._symbols() if symbol not in self.held and symbol not in self.others]
        if missing:
            reasons.append(f"no lease yet for {', '.join(missing)}" + (f": {self._trouble}" if self._trouble else ""))
        return reasons

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        waiting_since: float | None = None
        while True:
            self._kicked.clear()
            symbols = self._all()
            is_answered = await self._round(symbols)
            if not self.is_started and is_answered:
                waiting_since = loop.time() if waiting_since is None else waiting_since
                if not self.others:
                    self.is_started, self._takeover = True, False
                elif loop.time() - waiting_since >= self._patience_s:
                    symbol, holder = next(iter(self.others.items()))
                    raise MdfeedError(
                        f"{symbol}: the lease is held by another daemon, {shown(holder)}: stop it, or use --takeover"
                    )
            if self.is_started:
                self._open(symbols)
            pause_s = RENEW_S if self.held.issuperset(symbols) and is_answered else RETRY_S
            try:
                async with asyncio.timeout(pause_s):
                    await self._kicked.wait()
            except TimeoutError:
                continue

    async def close(self) -> None:
        """Give up what is held, so that the next one need not wait. Never raises for the server's faults."""
        self._valve.shut_all()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                keys = [PREFIX + symbol for symbol in self._all()]
                await self._client.eval(RELEASE, len(keys), *keys, self.token)
        except FAR_SIDE:
            pass
        self.held.clear()
        with suppress(*FAR_SIDE):
            await self._client.aclose()

    def _all(self) -> list[str]:
        return [*dict.fromkeys([*self._symbols(), *self._departed])]

    # ---- one round

    async def _round(self, symbols: list[str]) -> bool:
        """Ask for every lease, and once more for those whose holder is dead. False when Redis did not answer."""
        try:
            async with asyncio.timeout(2 * TIMEOUT_S):
                if self._is_doubted:
                    # The sink's server may be another one by now: Sentinels are asked for a new connection only.
                    await self._client.connection_pool.disconnect()
                    self._is_doubted = False
                asked_ns = now_ns()
                answers = await self._acquire(dict.fromkeys(symbols, ""))
                dead = {symbol: holder for symbol, holder in answers.items() if holder and is_dead(holder)}
                if dead:
                    log.info("leases of a process that is dead are taken over: %s", ", ".join(dead))
                    asked_ns = now_ns()
                    answers |= await self._acquire(dead)
        except FAR_SIDE as error:
            self._complain(error)
            self._expire()
            return False
        self._trouble = ""
        self._until_ns = asked_ns + TTL_MS * 1_000_000
        self._note(answers)
        return True

    async def _acquire(self, dead: dict[str, str]) -> dict[str, str]:
        """Symbol -> its other holder, or an empty text when it is ours; `dead` holders are pushed aside."""
        keys = [PREFIX + symbol for symbol in dead]
        arguments: list[str | int] = [self.token, TTL_MS, int(self._takeover), *dead.values()]
        replies = await self._client.eval(ACQUIRE, len(keys), *keys, *arguments)
        if not isinstance(replies, list) or len(replies) != len(keys):
            raise ResponseError("an answer that is none")
        return {symbol: text_of(reply) for symbol, reply in zip(dead, replies, strict=True)}

    def _note(self, answers: dict[str, str]) -> None:
        for symbol, holder in answers.items():
            if holder and symbol in self._departed:
                del self._departed[symbol]
                self._shut(symbol)
            elif holder:
                if self.is_started and symbol not in self.others:
                    log.error("%s: the lease is lost to %s; no longer published", symbol, shown(holder))
                self.others[symbol] = holder
                self._shut(symbol)
            else:
                self.others.pop(symbol, None)
        for symbol in (self.others.keys() | self.held) - answers.keys():  # no longer among the symbols
            self.others.pop(symbol, None)
            self._shut(symbol)

    def _open(self, symbols: list[str]) -> None:
        """Let through what is ours, until our last request's leases end."""
        opened = []
        at_ns = now_ns()
        current = set(self._all())  # some may have gone while the answer was on its way
        for symbol in symbols:
            if symbol not in current or symbol in self.others or self._until_ns <= at_ns:
                continue
            # One that was kept back for a while though the lease is ours, for we were asleep, is news as well.
            if self._valve.open(self._index_of(symbol), self._until_ns) or symbol not in self.held:
                opened.append(symbol)
            self.held.add(symbol)
        if opened:
            self._on_open(opened)

    def _expire(self) -> None:
        """Without an answer our leases last as long as the last one said; the valve knows that by itself."""
        if self.held and now_ns() >= self._until_ns:
            log.error("redis: the leases could not be renewed in time; nothing is published until they are")
            self._valve.shut_all()
            self.held.clear()

    def _shut(self, symbol: str) -> None:
        self.held.discard(symbol)
        self._valve.shut(self._index_of(symbol))

    def _complain(self, error: Exception) -> None:
        """The sink says when the server is away; here only what is wrong with leases alone."""
        is_away = isinstance(error, (NoConnection, NoAnswer, OSError, TimeoutError))
        text = "redis does not answer" if is_away else " ".join(mask(str(error)).split())[:200]
        if isinstance(error, ResponseError) and text != self._trouble:
            log.error("redis refuses leases: %s; nothing is published (redis.leases: false goes without)", text)
        self._trouble = text


def text_of(reply: Any) -> str:
    """A holder as text; whatever else a server may answer stands for somebody unknown."""
    return reply[:300].decode("utf-8", "replace") if isinstance(reply, bytes) else "unknown"


def shown(holder: str) -> str:
    """A holder for people: machine and pid, without control characters."""
    parts = holder.split()
    text = f"pid {parts[2]} on {parts[0]}" if len(parts) == 5 else holder[:80]
    return "".join(character if character.isprintable() else "?" for character in text)


def whoami() -> str:
    """`machine namespace pid start`: enough to tell later whether this process is still there."""
    pid = os.getpid()
    return f"{machine()} {namespace()} {pid} {start_of(pid) or 0}"


def machine() -> str:
    try:
        number = Path("/etc/machine-id").read_text().strip()[:12]
    except OSError:
        number = "-"
    return f"{socket.gethostname()}/{number}".replace(" ", "_")


def namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return "-"


def start_of(pid: int) -> int | None:
    """When a process started, in the kernel's ticks; None when that cannot be seen."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def is_dead(holder: str) -> bool:
    """Whether a holder is surely dead: a process of this machine and pid namespace that is there no more."""
    parts = holder.split()
    if len(parts) != 5 or parts[:2] != [machine(), namespace()]:
        return False
    if not (parts[2].isdecimal() and parts[3].isdecimal() and len(parts[2]) < 10):
        return False
    pid, start = int(parts[2]), int(parts[3])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False  # another user's: it is there
    now = start_of(pid)
    return bool(start) and now is not None and now != start

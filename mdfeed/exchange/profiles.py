"""How one instrument's numbers are written, and how its market feels: tick, step, price, crowd.

Prices are int ticks and quantities int steps everywhere in the simulated venue; this file alone turns them into text.
Refuses to know orders, streams and time.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace

_TEXTS_MAX = 50_000  # cached price texts an instrument; a drifting market must not grow the cache for ever


@dataclass(frozen=True)
class Profile:
    """One instrument. Texts may have more decimals than the tick needs (BTCUSDT: tick 0.10, text 61800.20)."""

    symbol: str
    tick_units: int  # one tick, in units of 10**-price_digits
    price_digits: int
    step_units: int  # one step of quantity, in units of 10**-qty_digits
    qty_digits: int
    price: float  # where the market opens
    spread_ticks: float  # of the reference price to where orders start
    reach_ticks: float  # scale of the power law of an order's distance
    qty_steps: float  # median quantity of an order
    base_asset: str = ""
    quote_asset: str = "USDT"
    _texts: dict[int, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def tick_size(self) -> str:
        return _decimal(self.tick_units, self.price_digits)

    @property
    def step_size(self) -> str:
        return _decimal(self.step_units, self.qty_digits)

    @property
    def price_ticks(self) -> int:
        """The opening price in ticks."""
        units: int = 10**self.price_digits
        return max(4, round(self.price * units / self.tick_units))

    def finer(self) -> Profile:
        """The same instrument with a tick ten times smaller, and so a longer price fraction."""
        is_room = self.tick_units % 10 == 0
        return replace(
            self,
            tick_units=self.tick_units // 10 if is_room else self.tick_units,
            price_digits=self.price_digits if is_room else self.price_digits + 1,
            spread_ticks=self.spread_ticks * 10,
            reach_ticks=self.reach_ticks * 10,
            _texts={},
        )

    def price_text(self, ticks: int) -> str:
        text = self._texts.get(ticks)
        if text is None:
            if len(self._texts) >= _TEXTS_MAX:
                self._texts.clear()
            text = self._texts[ticks] = _decimal(ticks * self.tick_units, self.price_digits)
        return text

    def qty_text(self, steps: int) -> str:
        return _decimal(steps * self.step_units, self.qty_digits)

    def quote_text(self, tick_steps: int) -> str:
        """Text of a sum of price times quantity, given in ticks times steps."""
        return _decimal(tick_steps * self.tick_units * self.step_units, self.price_digits + self.qty_digits)


def _decimal(units: int, digits: int) -> str:
    """Exact decimal text of `units` * 10**-digits, with all `digits` fraction digits."""
    if not digits:
        return str(units)
    sign = "-" if units < 0 else ""
    whole, fraction = divmod(abs(units), 10**digits)
    return f"{sign}{whole}.{fraction:0{digits}d}"


_KNOWN = {
    "BTCUSDT": Profile("BTCUSDT", 10, 2, 1, 3, 61_800.0, 0.6, 24.0, 60.0, "BTC"),
    "ETHUSDT": Profile("ETHUSDT", 1, 2, 1, 3, 2_650.0, 0.6, 14.0, 1_500.0, "ETH"),
    "BNBUSDT": Profile("BNBUSDT", 10, 3, 1, 2, 578.0, 0.7, 8.0, 400.0, "BNB"),
    "SOLUSDT": Profile("SOLUSDT", 100, 4, 1, 0, 142.0, 0.7, 8.0, 30.0, "SOL"),
}


def profile_for(symbol: str) -> Profile:
    """The profile of `symbol`: one of the four known ones, else one made from the name, the same in every run."""
    known = _KNOWN.get(symbol)
    if known is not None:
        return Profile(**{name: getattr(known, name) for name in Profile.__dataclass_fields__ if name != "_texts"})
    draw = zlib.crc32(symbol.encode())
    price_digits = draw % 5 + 1
    # Between 4,000 and 20,000 ticks to the price, as most of the venue's contracts have.
    ticks = 4_000 + draw // 5 % 16_000
    base, quote = (
        (symbol[:-4], symbol[-4:]) if symbol.endswith(("USDT", "USDC")) and len(symbol) > 4 else (symbol, "USDT")
    )
    return Profile(
        symbol,
        1,
        price_digits,
        1,
        draw // 7 % 4,
        ticks / 10**price_digits,
        0.7,
        6.0,
        200.0,
        base,
        quote,
    )


def symbol_names(count: int) -> list[str]:
    """`count` names: the four known ones first, then SYM000USDT, SYM001USDT, ..."""
    names = list(_KNOWN)[:count]
    return names + [f"SYM{number:03d}USDT" for number in range(count - len(names))]

"""The page in a real Chromium: what it shows is what the daemon says, and what is old or bad looks so."""

from __future__ import annotations

import time
from decimal import Decimal
from pathlib import Path

import pytest

from mdfeed.embedded import EmbeddedRedis
from mdfeed.exchange.server import SimulatedExchange
from mdfeed.settings import Auth
from tests.browser import CHROMIUM, Tab, browsing
from tests.http_rig import advance, rig_of
from tests.integration.daemon import serving
from tests.integration.test_serve import write_config

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
    pytest.mark.timeout(180),
]

SHOWN = """(() => {
  const cells = (row) => [...row.children].map((cell) => cell.textContent);
  const rows = (id) => [...document.querySelectorAll(`#${id} .row`)].map(cells);
  return {
    id: Number((document.getElementById("ids").textContent.match(/^id (\\d+)/) ?? [0, 0])[1]),
    asks: rows("asks").reverse(), bids: rows("bids"), symbol: document.getElementById("symbol").textContent,
    mid: document.getElementById("mid").textContent, spread: document.getElementById("spread").textContent,
  };
})()"""
IS_LIVE = "!document.body.classList.contains('away') && document.querySelectorAll('#bids .row').length > 5"
IS_AWAY = "document.body.classList.contains('away') && !document.getElementById('away').hidden"
IS_BLANK = """document.body.classList.contains('blank') && document.querySelectorAll('.side .row').length === 0
  && getComputedStyle(document.getElementById('nothing')).display !== 'none'"""


def state(name: str) -> str:
    return f"document.getElementById('state').dataset.state === '{name}'"


def check_totals(side: list[list[str]]) -> None:
    total = Decimal(0)
    for _, qty, shown in side:
        total += Decimal(qty)
        assert Decimal(shown) == total


async def check_ladder(tab: Tab, exchange: SimulatedExchange, symbol: str) -> None:
    """What is seen is the exchange's own book at that id, and what the API says when it is at the same."""
    shown = await tab.evaluate(SHOWN)
    truth = exchange.market.truth(symbol).book_at(shown["id"])
    for side in ("bids", "asks"):
        exact = [(Decimal(price), Decimal(qty)) for price, qty in truth.levels(side, 20)]
        assert [(Decimal(price), Decimal(qty)) for price, qty, _ in shown[side]] == exact
        check_totals(shown[side])
    best_bid, best_ask = Decimal(shown["bids"][0][0]), Decimal(shown["asks"][0][0])
    assert Decimal(shown["spread"]) == best_ask - best_bid
    assert Decimal(shown["mid"]) * 2 == best_ask + best_bid
    same = await tab.until(
        f"""fetch("/api/v1/market-data/orderbook/{symbol}").then((answer) => answer.json()).then((api) => {{
          const shown = {SHOWN};
          return shown.id === api.last_update_id && {{ api, shown }};
        }})"""
    )
    for side in ("bids", "asks"):
        assert [row[:2] for row in same["shown"][side]] == same["api"][side]  # to the letter


async def test_what_is_seen_is_the_book_and_a_dead_daemons_page_says_so(tmp_path: Path) -> None:
    with EmbeddedRedis() as server:
        async with SimulatedExchange(("BTCUSDT", "ETHUSDT"), seed=4, rate=40) as exchange:
            config = write_config(tmp_path, exchange, server.url)
            async with browsing(tmp_path) as tab:
                async with serving("-c", config) as daemon:
                    await daemon.until_ready()
                    address = f"http://127.0.0.1:{daemon.port}/"
                    assert [line for line in daemon.log if line.endswith(f"page at {address}")]
                    await tab.open(address)
                    await tab.until(f"{IS_LIVE} && {state('PROVED')}")
                    await check_ladder(tab, exchange, "BTCUSDT")
                    await tab.evaluate("document.querySelector('[aria-selected=true]').focus()")
                    for kind in ("keyDown", "keyUp"):
                        await tab.tell("Input.dispatchKeyEvent", type=kind, key="ArrowDown", code="ArrowDown")
                    await tab.until(f"{IS_LIVE} && document.getElementById('symbol').textContent === 'ETHUSDT'")
                    await check_ladder(tab, exchange, "ETHUSDT")
                    assert await tab.evaluate("document.activeElement.dataset.symbol") == "ETHUSDT"
                    await tab.until("document.getElementById('ready').textContent === 'ready'")
                    await tab.until("document.querySelectorAll('#prints .row').length > 0")
                    assert tab.complaints == []
                    daemon.process.kill()
                    await tab.until(IS_AWAY)
                    await tab.until("document.getElementById('away').textContent.includes('does not answer')")
                    assert float(await tab.evaluate("getComputedStyle(document.querySelector('main')).opacity")) < 0.5
                    assert (await tab.evaluate("document.title")).startswith("(stale)")
                # A new daemon on the same port: the page comes back by itself, with the symbol that was picked.
                async with serving("-c", config, "--http", f"127.0.0.1:{daemon.port}", "--takeover"):
                    await tab.until(f"{IS_LIVE} && {state('PROVED')}", 60)
                    assert (await tab.evaluate(SHOWN))["symbol"] == "ETHUSDT"
                    # Its line is gone: the book is no longer good, and nothing of it is seen.
                    await exchange.close()
                    await tab.until(f"{IS_BLANK} && {state('STALE')}")
                    await tab.until("document.getElementById('reasons').textContent.includes('ETHUSDT: STALE')")


async def test_texts_of_a_hostile_daemon_are_texts(tmp_path: Path) -> None:
    """Whatever a message says, nothing of it becomes an element."""
    evil = "<img src=x onerror=alert(1)>"
    async with rig_of() as rig, browsing(tmp_path) as tab:
        row, book = rig.view.row, rig.view.book
        rig.view.row = lambda track, now_s: row(track, now_s) | {"reason": evil}  # type: ignore[method-assign]
        rig.view.book = lambda track, now_s: book(track, now_s) | {  # type: ignore[method-assign]
            "reason": evil, "source": evil, "trades": [[1, evil, evil, True, 1]], "mid": evil,
        }  # fmt: skip
        await tab.open(f"http://127.0.0.1:{rig.port}/")
        await tab.until(f"document.getElementById('mid').textContent === '{evil}'")
        await tab.until("document.getElementById('tabs').textContent.includes('<img')")
        assert await tab.evaluate("document.querySelectorAll('img').length") == 0
        # And if something of it did, it would not run.
        assert await tab.evaluate("(() => { try { document.body.innerHTML = 'x' } catch (e) { return e.name } })()")


async def test_a_token_is_asked_for_and_opens(tmp_path: Path) -> None:
    token = "sesame-sesame-12"
    async with rig_of(Auth(token=token)) as rig, browsing(tmp_path) as tab:
        await tab.open(f"http://127.0.0.1:{rig.port}/")
        await tab.until("!document.getElementById('door').hidden")
        for given, is_good in ((f"{token}x", False), (token, True)):
            await tab.evaluate(
                f"""(() => {{
                  document.getElementById("token").value = "{given}";
                  document.getElementById("door").requestSubmit();
                }})()"""
            )
            if not is_good:
                await tab.until("document.getElementById('refused').textContent !== ''")
        await tab.until("!document.body.classList.contains('away') && document.getElementById('door').hidden")
        await tab.until("document.querySelectorAll('#bids .row').length === 1")
        # Loaded again, the ticket opens the socket and nobody is asked.
        await tab.reload()
        await tab.until("!document.body.classList.contains('away') && document.getElementById('door').hidden")
        assert (
            await tab.evaluate("document.cookie + JSON.stringify(localStorage) + JSON.stringify(sessionStorage)")
            == "{}{}"
        )


async def test_a_password_opens_the_page_and_its_socket(tmp_path: Path) -> None:
    async with rig_of(Auth(user="ops", password="pw")) as rig, browsing(tmp_path) as tab:
        await tab.open(f"http://ops:pw@127.0.0.1:{rig.port}/")
        await tab.until("!document.body.classList.contains('away')")
        # A tick later than its message, and then the newest.
        advance(rig, 11, [["61800.10", "7.25"]])
        await tab.until("document.querySelector('#bids .row')?.children[1].textContent === '7.25'")


async def test_a_page_of_another_origin_gets_nothing(tmp_path: Path) -> None:
    """A page elsewhere that knows where the daemon is, in a browser that holds its credentials."""
    async with rig_of(Auth(user="ops", password="pw")) as rig, rig_of() as other, browsing(tmp_path) as tab:
        await tab.open(f"http://ops:pw@127.0.0.1:{rig.port}/")
        await tab.until("!document.body.classList.contains('away')")
        # The same machine by another name: another site. Its own policy would forbid it; a foreign page has none.
        await tab.tell("Page.setBypassCSP", enabled=True)
        answers, answer = [], rig.server.answer
        rig.server.answer = lambda request: (answers.append(answer(request)), answers[-1])[1]  # type: ignore[method-assign]
        await tab.open(f"http://localhost:{other.port}/")
        await tab.until("!document.body.classList.contains('away')")
        said = await tab.evaluate(
            f"""new Promise((done) => {{
              const socket = new WebSocket("ws://127.0.0.1:{rig.port}/ws");
              socket.onmessage = (event) => done(event.data);
              socket.onclose = () => done("closed");
            }})"""
        )
        assert said == "closed"
        assert [refused.status for refused in answers] in ([401], [403])  # the latter if it sends what it was given


async def test_a_silent_daemon_is_taken_for_stale(tmp_path: Path) -> None:
    async with rig_of() as rig, browsing(tmp_path) as tab:
        await tab.open(f"http://127.0.0.1:{rig.port}/")
        await tab.until("!document.body.classList.contains('away')")
        for viewer in rig.viewers.viewers:
            viewer.push = lambda now_s: None  # type: ignore[method-assign]
        started = time.monotonic()
        await tab.until(f"{IS_AWAY} && document.getElementById('away').textContent.includes('fallen silent')")
        assert time.monotonic() - started > 2

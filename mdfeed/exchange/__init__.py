"""The simulated venue: a market, what its streams say, and a server that a Binance USD-M client takes for the real one.

It answers for a loopback exchange whose every published number can be checked against one truth. It knows nothing of
mdfeed's own feed, decoder or books: an oracle must not share code with what it judges.

    profiles   how one instrument's numbers are written         truth      the exact book at any past update id
    matching   one instrument's order book, price-time priority tape       trades, aggregate trades, candles, 24 h
    flow       seeded order flow                                streams    names, routes, and what each stream says
    market     all instruments on one clock and one id counter  playback   a capture in the market's place
    rest       HTTP and WS-API answers, request weight          faults     the seam that all output passes through
    link       one WebSocket connection                         server     one port for all of it
    script     when faults act, and several as one seam         spec       faults as text
    garbling   faults of frames                                 cutting    faults of connections and bytes
    refusing   faults of HTTP                                   upsets     faults of the market itself
"""

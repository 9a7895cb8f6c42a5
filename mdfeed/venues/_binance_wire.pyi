from typing import Final

from mdfeed._parse import Decoder, Instruments

PRODUCTS: Final[tuple[str, ...]]

class BinanceDecoder(Decoder):
    """Decodes frames and REST depth bodies of one product: "usdm", "coinm" or "spot"."""

    def __init__(self, instruments: Instruments, product: str) -> None: ...

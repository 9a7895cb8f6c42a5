"""One look at the page of a daemon that runs on this machine, as a stranger would take it.

Answers for: whether its WebSocket speaks, or refuses as it was told to. No credentials are sent: whoever holds the port
might not be who it should be. Refuses to know: what to do about it.
"""

from __future__ import annotations

import asyncio
import json
import ssl

from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus, WebSocketException

from mdfeed.config import Config
from mdfeed.gate import Gate
from mdfeed.http import LOCAL

GLANCE_S = 5.0


async def glance(config: Config) -> tuple[bool, str]:
    """(whether all is well, one line about it)."""
    tls, host = config.http.tls, LOCAL.get(config.http.host, config.http.host)
    context = None
    if tls.cert is not None:
        # The very certificate of the configuration is the proof, whatever names are in it and whoever signed it.
        context = ssl.create_default_context(cafile=tls.cert)
        context.check_hostname = False
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    address = f"[{host}]" if ":" in host else host
    url = f"{'ws' if context is None else 'wss'}://{address}:{config.health_port}/ws"
    is_guarded = not Gate(config.http.auth).is_open
    try:
        async with asyncio.timeout(GLANCE_S), connect(url, ssl=context, proxy=None) as page:
            hello = json.loads(await page.recv())
            text = f"the page answers: version {hello['version']}, {len(hello['symbols'])} symbols"
    except InvalidStatus as refused:
        status = refused.response.status_code
        if is_guarded and status == 401:
            return True, "the page answers, and asks for credentials"
        return False, f"the page's WebSocket answered {status}"
    except ssl.SSLError as error:
        if tls.client_ca is not None:
            return True, "the page demands a client certificate"
        return False, f"the page has another certificate than http.tls.cert: {error.reason or error}"
    except (OSError, TimeoutError, WebSocketException, ValueError, LookupError, TypeError) as error:
        return False, f"the page's WebSocket does not answer: {error or type(error).__name__}"
    if is_guarded:
        return False, f"{text}; but it asks for no credentials, and http.auth says that it should: restart the daemon"
    return True, text

"""Reads what pods say of themselves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

import aiohttp
from pydantic import BaseModel, ValidationError

from wan_operator.answers import why_unreachable
from wan_operator.kinds import Page
from wan_runtime.contract.job import PROGRESS_PORT
from wan_runtime.faults import described

logger = logging.getLogger(__name__)

TIMEOUT = aiohttp.ClientTimeout(total=2)


async def ask(
    http: aiohttp.ClientSession, page: Page, addresses: Mapping[str, str]
) -> dict[str, BaseModel]:
    """The answers, by name. A pod that gives none is no error: its work goes on."""
    said = await asyncio.gather(*(_ask(http, page, each) for each in addresses.values()))
    return {name: each for name, each in zip(addresses, said, strict=True) if each is not None}


async def _ask(http: aiohttp.ClientSession, page: Page, address: str) -> BaseModel | None:
    host = f"[{address}]" if ":" in address else address
    url = f"http://{host}:{PROGRESS_PORT}{page.path}"
    try:
        async with http.get(url, timeout=TIMEOUT, allow_redirects=False) as answer:
            if answer.status != 200:
                return None
            body = bytearray()
            async for chunk in answer.content.iter_chunked(page.limit_bytes):
                body += chunk
                if len(body) > page.limit_bytes:
                    return None
            return page.model.model_validate_json(body)
    except ValidationError as error:
        logger.debug("not an answer", extra={"url": url, "error": described(error)})
        return None
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        logger.debug("no answer", extra={"url": url, "error": why_unreachable(error)})
        return None

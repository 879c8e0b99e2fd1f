"""An HTTP client that follows no redirect, and reads no more of a response than an answer needs."""

from __future__ import annotations

import zlib
from typing import Any

from kommuna.steps.llm.response import BrokenBody

MOST_BYTES = 4 * 2**20  # of an answer, decompressed: 4,096 tokens of JSON take some 50 KB
_MOST_RESULTS = 256 * 2**20  # of a batch's results: 128 KiB for each of its requests

_PLAIN = ("", "identity")
_GZIP = ("gzip", "x-gzip")


class OversizedBody(Exception):
    """The body of a response is larger than any answer, or compressed in a way that cannot be bounded."""


def bounded_client(**options: Any) -> Any:
    """Returns an `httpx.AsyncClient` for the `openai` client.

    A redirect would take the texts and the key to an address that nobody has configured, so it is returned as the
    response that it is. Bodies are bounded while they are read, after decompression.

    Args:
        options: those of `httpx.AsyncClient`.
    """
    import openai

    class Client(openai.DefaultAsyncHttpxClient):  # type: ignore[misc,valid-type,unused-ignore]
        async def send(self, request: Any, **options: Any) -> Any:
            response = await super().send(request, **options | {"stream": True, "follow_redirects": False})
            is_results = request.method == "GET" and request.url.path.endswith("/content")
            try:
                content = await _content(response, _MOST_RESULTS if is_results else MOST_BYTES)
            finally:
                await response.aclose()
            headers = [
                (name, value)
                for name, value in response.headers.multi_items()
                if name.lower() not in ("content-encoding", "content-length", "transfer-encoding")
            ]
            return type(response)(response.status_code, headers=headers, content=content, request=request)

    return Client(follow_redirects=False, headers={"Accept-Encoding": "gzip"}, **options)


async def _content(response: Any, most: int) -> bytes:
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding not in (*_PLAIN, *_GZIP):
        raise OversizedBody(f"the answer is compressed by '{encoding[:20]}', which was not asked for")
    unpack = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS) if encoding in _GZIP else None
    content = bytearray()
    async for part in response.aiter_raw():
        try:
            content += unpack.decompress(part, most + 1 - len(content)) if unpack else part
        except zlib.error:
            raise BrokenBody from None
        if len(content) > most:
            raise OversizedBody(f"the answer has more than {most >> 20} MiB")
    return bytes(content)

"""Why a server gave no answer, in words; the address is in those of the caller."""

from __future__ import annotations

import errno
import http.client
import os
import re
import socket
import ssl

ENDED = "the connection ended before the answer"
FOREIGN = "what answers there is no HTTP server"
NOBODY = "nothing listens there"
UNRESOLVED = "its host name does not resolve"
UNTRUSTED = "its certificate is not trusted: check the certificate authority and the host name"
NO_TLS = "it does not speak TLS: is the address one of http, not https?"
LATE = "no answer in time"
NUMBER = re.compile(r"\[Errno (\d+)\]")


def why(error: BaseException) -> str:
    """Cause of an error of sockets, of TLS, or of a client library that wraps one."""
    error = _innermost(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return UNTRUSTED
    if isinstance(error, ssl.SSLError):
        return NO_TLS
    if isinstance(error, socket.gaierror):
        return UNRESOLVED
    if isinstance(error, TimeoutError):
        return LATE
    if isinstance(error, http.client.BadStatusLine):
        return ENDED if isinstance(error, http.client.RemoteDisconnected) else FOREIGN
    # asyncio joins the errors of several addresses to one without a number.
    number = getattr(error, "errno", None) or next(map(int, NUMBER.findall(str(error))), 0)
    if number == errno.ECONNREFUSED:
        return NOBODY
    if number in (0, errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN):
        return ENDED
    return os.strerror(number).lower()


def _innermost(error: BaseException) -> BaseException:
    """Error of the standard library below those that a client library wraps around it."""
    while not isinstance(error, OSError | http.client.HTTPException):
        held = (getattr(error, "reason", None), *reversed(error.args), error.__cause__)
        inner = next((each for each in held if isinstance(each, BaseException)), None)
        if inner is None:
            break
        error = inner
    return error

"""One HTTP request to a registry and its answer: deadlines, redirects, logins, and limits on all that comes back."""

from __future__ import annotations

import re
import ssl
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

import msgspec
import urllib3
from urllib3.exceptions import HTTPError, LocationParseError, MaxRetryError, SSLError
from urllib3.response import BaseHTTPResponse

from edgepack.errors import BoardError, EdgepackError, InputError, TrustError
from edgepack.references import InRegistry
from edgepack.registry.credentials import Login, find_login

MAX_ANSWER = 4 << 20
"""Bytes of any answer that is not a blob: the limit that distribution-spec v1.1 gives manifests."""
_TIMEOUT = urllib3.Timeout(connect=10.0, read=60.0)
_REDIRECTS = 5
_CHALLENGE = re.compile(r'([a-z_]+)="([^"]*)"', re.IGNORECASE)
_NOT_PLAIN = frozenset({"gzip", "deflate", "br", "zstd", "compress", "x-gzip"})


class _Token(msgspec.Struct):
    token: str = ""
    access_token: str = ""


@dataclass
class Transport:
    """Requests to one registry, for one repository.

    plain: http without TLS; writing: whether a token must allow pushing
    """

    reference: InRegistry
    plain: bool
    writing: bool
    _authorization: str = ""
    _login: Login | None = None
    _asked: bool = False
    _pools: dict[str, urllib3.PoolManager] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        return f"{'http' if self.plain else 'https'}://{self.reference.host}"

    @contextmanager
    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        accept: tuple[int, ...] = (200,),
        length: int = 0,
    ) -> Iterator[BaseHTTPResponse]:
        """One request, its answer not yet read. body: bytes, or a stream of `length` bytes that can be sought to its start.

        url: absolute, or a path at the registry. Raises BoardError where the registry is unreachable or fails, InputError
        where it does not know what is asked for, TrustError where it does not know or trust us.
        """
        response = self._exchange(method, url, dict(headers or {}), body, length)
        try:
            if response.status not in accept:
                raise self._refusal(method, response)
            encoding = response.headers.get("Content-Encoding", "").lower()
            if encoding in _NOT_PLAIN:
                raise TrustError(
                    f"{self.reference}: the registry sent compressed data that nobody asked for ({encoding})",
                    expected="the bytes as they are",
                )
            yield response
        except (HTTPError, OSError) as error:
            raise self._broken(error) from None
        finally:
            response.close()

    def read(self, response: BaseHTTPResponse, limit: int = MAX_ANSWER) -> bytes:
        """All of a small answer. Raises InputError above `limit` bytes, announced or sent."""
        data = response.read(limit + 1, decode_content=False)
        if len(data) > limit:
            raise InputError(f"{self.reference}: the registry's answer is too large", expected=f"at most {limit} bytes")
        return data

    def _exchange(self, method: str, url: str, headers: dict[str, str], body: Any, length: int) -> BaseHTTPResponse:
        response, at = self._follow(method, url, headers, body, length)
        if response.status in (401, 403) and self._ours(at) and self._authorize(response):
            response.close()
            response, _ = self._follow(method, url, headers, body, length)
        return response

    def _follow(
        self, method: str, url: str, headers: dict[str, str], body: Any, length: int
    ) -> tuple[BaseHTTPResponse, str]:
        """Redirects, only while reading: a storage service gets the request without our login. Returns where it ended."""
        at = urljoin(self.origin, url)
        for _ in range(_REDIRECTS + 1):
            self._check_url(at)
            response = self._once(method, at, headers, body, length)
            target = response.headers.get("Location")
            if method not in ("GET", "HEAD") or response.status not in (301, 302, 303, 307, 308) or not target:
                return response, at
            response.close()
            at = self.resolve(at, target)
        raise BoardError(
            f"{self.reference}: the registry redirects in a circle", expected=f"at most {_REDIRECTS} redirects"
        )

    def _once(self, method: str, url: str, headers: dict[str, str], body: Any, length: int) -> BaseHTTPResponse:
        headers = {"Accept-Encoding": "identity", "User-Agent": "edgepack", **headers}
        if self._ours(url) and self._authorization:
            headers["Authorization"] = self._authorization
        if hasattr(body, "seek"):
            body.seek(0)
            headers["Content-Length"] = str(length)
        try:
            return self._pool(url).request(
                method,
                url,
                body=body,
                headers=headers,
                preload_content=False,
                decode_content=False,
                redirect=False,
                retries=False,
                timeout=_TIMEOUT,
            )
        except (HTTPError, OSError) as error:
            raise self._broken(error) from None

    def resolve(self, base: str, target: str) -> str:
        """An address that the registry named, relative to `base` or not. Raises BoardError where it is none."""
        try:
            found = urljoin(base, target)
            urlsplit(found)
        except ValueError:
            raise BoardError(f"{self.reference}: the registry named an address that is none: {target[:80]!r}") from None
        return found

    def _ours(self, url: str) -> bool:
        one, other = urlsplit(url), urlsplit(self.origin)
        return (one.scheme, one.netloc) == (other.scheme, other.netloc)

    def _check_url(self, url: str) -> None:
        """A registry may name another host, but neither leave TLS nor make us speak to what lies on this machine."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or (parts.scheme == "http" and not self.plain):
            raise TrustError(
                f"{self.reference}: the registry points to {url[:120]!r}",
                expected="an address with https",
                advice="ask who runs the registry; --plain-http allows it where no TLS is wanted at all",
            )
        local = InRegistry(parts.netloc.rpartition("@")[2], "x").loopback
        if local and not self.reference.loopback:
            raise TrustError(f"{self.reference}: the registry points to this very machine: {url[:120]!r}")

    def _pool(self, url: str) -> urllib3.PoolManager:
        """Through the proxy that the environment names, unless its NO_PROXY excepts the host."""
        parts = urlsplit(url)
        proxy = urllib.request.getproxies().get(parts.scheme, "")
        local = InRegistry(parts.netloc, "x").loopback
        if local or urllib.request.proxy_bypass(parts.netloc):
            proxy = ""
        if proxy not in self._pools:
            trust = ssl.create_default_context()
            self._pools[proxy] = (
                urllib3.ProxyManager(proxy, ssl_context=trust) if proxy else urllib3.PoolManager(ssl_context=trust)
            )
        return self._pools[proxy]

    def close(self) -> None:
        for pool in self._pools.values():
            pool.clear()

    def _authorize(self, response: BaseHTTPResponse) -> bool:
        """Answer a challenge (RFC 9110 §11.6.1; docs.docker.com/registry/spec/auth/token). True where it is worth another try."""
        challenge = response.headers.get("WWW-Authenticate", "")
        kind, _, rest = challenge.partition(" ")
        before = self._authorization
        if not self._asked:
            self._login, self._asked = find_login(self.reference.host), True
        match kind.lower():
            case "basic" if self._login and not self._login.token:
                self._authorization = self._login.basic()
            case "bearer":
                self._authorization = "Bearer " + self._token(dict(_CHALLENGE.findall(rest)))
        return self._authorization != before

    def _token(self, challenge: dict[str, str]) -> str:
        realm = self.resolve(self.origin, challenge.get("realm", ""))
        self._check_url(realm)
        scope = f"repository:{self.reference.repository}:{'pull,push' if self.writing else 'pull'}"
        asked = {"service": challenge.get("service", ""), "scope": challenge.get("scope") or scope}
        headers, login = {"Accept-Encoding": "identity", "User-Agent": "edgepack"}, self._login
        try:
            if login and login.token:
                form = {**asked, "grant_type": "refresh_token", "client_id": "edgepack", "refresh_token": login.token}
                response = self._ask(realm, "POST", headers, form)
            else:
                headers |= {"Authorization": login.basic()} if login else {}
                response = self._ask(f"{realm}{'&' if '?' in realm else '?'}{urlencode(asked)}", "GET", headers)
            if response.status != 200:
                raise self._refusal("GET", response)
            answer = msgspec.json.decode(self.read(response), type=_Token)
        except (HTTPError, OSError) as error:
            raise self._broken(error) from None
        except msgspec.DecodeError as error:
            raise BoardError(f"{self.reference}: {realm} gave no token: {error}") from None
        token = answer.token or answer.access_token
        if not token or not token.isascii() or not token.isprintable():
            raise BoardError(f"{self.reference}: {realm} gave no token that could be one")
        return token

    def _ask(
        self, url: str, method: str, headers: dict[str, str], form: dict[str, str] | None = None
    ) -> BaseHTTPResponse:
        body = urlencode(form) if form else None
        if form:
            headers = {**headers, "Content-Type": "application/x-www-form-urlencoded"}
        return self._pool(url).request(
            method,
            url,
            body=body,
            headers=headers,
            preload_content=False,
            decode_content=False,
            redirect=False,
            retries=False,
            timeout=_TIMEOUT,
        )

    def _refusal(self, method: str, response: BaseHTTPResponse) -> EdgepackError:
        said = self._said(response)
        host, status = self.reference.host, response.status
        if status in (401, 403):
            who = f"as {self._login.user or 'the bearer of a token'!r}" if self._login else "without a login"
            return TrustError(
                f"{self.reference}: the registry refuses us {who}{said}",
                expected=f"the right to {'push to' if self.writing else 'pull from'} {self.reference.repository}",
                advice=f"skopeo login {host}, docker login {host} or oras login {host}",
            )
        if status == 404:
            return InputError(
                f"{self.reference}: the registry knows no such thing{said}",
                advice="check the repository and the tag; skopeo list-tags docker://" + self.reference.host + "/…",
            )
        if status == 429:
            return BoardError(f"{self.reference}: too many requests{said}", advice="wait, or log in for a higher limit")
        return BoardError(
            f"{self.reference}: the registry answers {method} with {status}{said}",
            advice="try again; if it stays, ask who runs the registry",
        )

    def _said(self, response: BaseHTTPResponse) -> str:
        """What the registry's own error says, printable and short."""
        try:
            document = msgspec.json.decode(response.read(1 << 16, decode_content=False))
            text = "; ".join(str(error.get("message") or error.get("code")) for error in document["errors"])
        except (msgspec.DecodeError, HTTPError, OSError, KeyError, TypeError, AttributeError, UnicodeDecodeError):
            return ""
        return ": " + "".join(c if c.isprintable() else "?" for c in text)[:200] if text else ""

    def _broken(self, error: Exception) -> EdgepackError:
        cause = error.reason if isinstance(error, MaxRetryError) and error.reason else error
        if isinstance(cause, SSLError | ssl.SSLError):
            return TrustError(
                f"{self.reference.host}: its TLS certificate is not trusted: {cause}",
                advice="add its authority to this machine's, or SSL_CERT_FILE; --plain-http only where nobody listens",
            )
        if isinstance(cause, LocationParseError):
            return BoardError(f"{self.reference}: the registry named an address that is none")
        return BoardError(
            f"{self.reference.host}: the registry cannot be reached, or the connection broke: {_short(cause)}",
            advice="check its name, its port and the network; what arrived there stays, so the same command goes on",
        )


def _short(error: Exception) -> str:
    return re.sub(r"<[^>]*>:? ?", "", str(error))[:160] or type(error).__name__

"""Who may speak to an ERP over HTTP: tokens of an identity provider, certificates of both sides; and what a person is told when not."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.server
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiohttp import web

from drivers.settings import Secret
from gateway.clock import SystemClock
from gateway.seams import UplinkError
from gateway.uplink.erp.http import HttpUplink
from tests.uplink.certificates import Authority
from tests.uplink.conftest import LeapingClock, http_uplink
from tests.uplink.doubles import Alerts, entry
from tests.uplink.erp_server import Erp

pytestmark = pytest.mark.slow

SECRET = "secret"
"""What `http_uplink` reads for every secret."""


@dataclass
class IdentityProvider:
    """Gives tokens t1, t2, ... that the ERP knows from then on, and forgets the one before."""

    erp: Erp
    answer: dict[str, Any] = field(default_factory=dict)
    """What its answers say besides, or in place of, the usual."""
    refusal: web.Response | None = None
    knows_headers: bool = True
    asked: list[tuple[dict[str, str], str | None]] = field(default_factory=list)
    """Form and Authorization of each request."""
    port: int = 0
    _runner: web.AppRunner | None = None

    @property
    def token_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/token"

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/token", self._token)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _token(self, request: web.Request) -> web.Response:
        form = {key: str(value) for key, value in (await request.post()).items()}
        self.asked.append((form, request.headers.get("Authorization")))
        if self.refusal is not None:
            return web.Response(status=self.refusal.status, body=self.refusal.body, headers=self.refusal.headers)
        if not self.knows_headers and "client_secret" not in form:
            return web.json_response({"error": "invalid_client"}, status=401)
        self.erp.token = f"t{len(self.asked)}"
        return web.json_response({"access_token": self.erp.token, "token_type": "Bearer", "expires_in": 3600, **self.answer})

    def uplink(self, clock: LeapingClock | None = None, **oauth2: Any) -> HttpUplink:
        settings = {"token_url": self.token_url, "client_id": "line pc:07", "client_secret": Secret(credential="erp"), **oauth2}
        return http_uplink(self.erp.url, token=None, oauth2=settings, clock=clock)


@pytest.fixture
async def provider(erp: Erp) -> AsyncIterator[IdentityProvider]:
    made = IdentityProvider(erp)
    await made.start()
    yield made
    await made.stop()


async def test_a_token_is_asked_for_once_and_again_shortly_before_its_end(provider: IdentityProvider) -> None:
    clock = LeapingClock()
    uplink = provider.uplink(clock, scope="production")
    await uplink.connect()
    for number in range(1, 20):
        assert (await uplink.deliver([entry(number)])).accepted == {number}
    pair = base64.b64encode(b"line+pc%3A07:secret").decode()
    assert provider.asked == [({"grant_type": "client_credentials", "scope": "production"}, f"Basic {pair}")]
    clock.ahead_s = 3600 - 65
    await uplink.deliver([entry(20)])
    assert len(provider.asked) == 1
    clock.ahead_s = 3600 - 55
    await uplink.deliver([entry(21)])
    assert len(provider.asked) == 2
    assert provider.erp.strangers == [], "no request met the end of its token"
    await uplink.close()
    await uplink.connect()
    assert len(provider.asked) == 2, "a new connection keeps the token"
    await uplink.close()


async def test_a_provider_may_want_id_and_secret_in_the_form(provider: IdentityProvider) -> None:
    uplink = provider.uplink(method="client_secret_post")
    await uplink.connect()
    await uplink.close()
    assert provider.asked == [({"grant_type": "client_credentials", "client_id": "line pc:07", "client_secret": SECRET}, None)]


@pytest.mark.parametrize("life", ["9" * 5000, 10**30, "soon", -1, 0.001, [], "²"])
async def test_a_life_that_makes_no_sense_is_none(provider: IdentityProvider, life: object) -> None:
    provider.answer = {"expires_in": life}
    uplink = provider.uplink()
    await uplink.connect()
    assert provider.erp.polls
    await uplink.close()


async def test_without_a_method_both_are_tried_and_the_one_that_works_is_kept(provider: IdentityProvider) -> None:
    provider.knows_headers = False
    clock = LeapingClock()
    uplink = provider.uplink(clock)
    await uplink.connect()
    assert [header is not None for _, header in provider.asked] == [True, False]
    clock.ahead_s = 4000
    await uplink.deliver([entry(1)])
    assert [header is not None for _, header in provider.asked] == [True, False, False]
    await uplink.close()
    uplink = provider.uplink(method="client_secret_basic")
    with pytest.raises(UplinkError):
        await uplink.connect()
    assert len(provider.asked) == 4, "where a method is given no other is tried"


async def test_a_token_that_is_no_longer_taken_is_renewed_once_and_the_events_are_booked_once(provider: IdentityProvider) -> None:
    uplink = provider.uplink()
    await uplink.connect()
    await uplink.deliver([entry(1)])
    provider.erp.token = "revoked"
    assert (await uplink.deliver([entry(2), entry(3)])).accepted == {2, 3}
    assert len(provider.asked) == 2
    assert provider.erp.strangers == ["Bearer t1"]
    assert provider.erp.sequences == [1, 2, 3]
    await uplink.close()


async def test_a_token_that_the_erp_never_takes_costs_two_tries_and_says_so(provider: IdentityProvider) -> None:
    uplink = provider.uplink()
    await uplink.connect()
    provider.erp.fault = lambda method, count: web.Response(status=401)
    assert (await uplink.deliver([entry(1)])).retry_after_s == 0.0
    assert len(provider.asked) == 2, "one at first, one after the 401"
    assert len(provider.erp.posts) == 2
    await uplink.close()
    with pytest.raises(UplinkError) as caught:
        await uplink.connect()
    assert caught.value.remedy is not None
    assert "scope" in caught.value.remedy.en
    await uplink.close()


@pytest.mark.parametrize("life", [{"expires_in": "120"}, {"expires_in": 120.0}, {"expires_in": None}, {"expires_in": True}])
async def test_the_life_of_a_token_may_be_text_or_missing(provider: IdentityProvider, life: dict[str, Any]) -> None:
    clock = LeapingClock()
    provider.answer = life
    uplink = provider.uplink(clock)
    await uplink.connect()
    clock.ahead_s = 60
    await uplink.deliver([entry(1)])
    assert len(provider.asked) == 1
    clock.ahead_s = 300
    await uplink.deliver([entry(2)])
    assert len(provider.asked) == 2
    await uplink.close()


REFUSALS: list[tuple[dict[str, Any], str]] = [
    ({"status": 401, "text": '{"error": "invalid_client", "error_description": "bad secret"}'}, "`client_id`, `client_secret`"),
    ({"status": 400, "text": '{"error": "invalid_scope"}'}, "scope"),
    ({"status": 400, "text": '{"error": "unauthorized_client"}'}, "client credentials"),
    ({"status": 401, "text": "<html>"}, "`client_id`, `client_secret`"),
    ({"status": 404, "text": "nothing here"}, "token_url"),
    ({"status": 302, "headers": {"Location": "/login"}}, "token_url"),
    ({"status": 503, "text": ""}, "identity provider's administrator"),
    ({"status": 200, "text": "<html>portal</html>"}, "token_url"),
    ({"status": 200, "text": '{"access_token": "a\\r\\nX-Evil: 1", "token_type": "Bearer"}'}, "token_url"),
    ({"status": 200, "text": '{"access_token": "abc", "token_type": "mac"}'}, "identity provider's administrator"),
    ({"status": 400, "text": f'{{"error": "invalid_client", "error_description": "not <{SECRET}>"}}'}, "`client_id`, `client_secret`"),
]


@pytest.mark.parametrize(("refusal", "remedy"), REFUSALS)
async def test_a_provider_that_gives_no_token_is_told_with_what_to_do(
    provider: IdentityProvider, refusal: dict[str, Any], remedy: str
) -> None:
    provider.refusal = web.Response(**refusal)
    with pytest.raises(UplinkError) as caught:
        await provider.uplink().connect()
    assert caught.value.remedy is not None
    assert remedy in caught.value.remedy.en
    assert caught.value.remedy.fr
    assert str(caught.value).startswith(f"no token: {provider.token_url}")
    assert f"<{SECRET}>" not in str(caught.value)
    assert provider.erp.polls == []
    assert provider.erp.strangers == []


async def test_an_absent_provider_is_a_lost_link(provider: IdentityProvider) -> None:
    uplink = provider.uplink()
    await provider.stop()
    with pytest.raises(UplinkError) as caught:
        await uplink.connect()
    assert caught.value.remedy is not None
    assert "token_url" in caught.value.remedy.en


async def test_neither_secret_nor_token_is_ever_logged(provider: IdentityProvider, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    with structlog.testing.capture_logs() as logged:
        uplink = provider.uplink()
        await uplink.connect()
        provider.erp.token = "revoked"
        await uplink.deliver([entry(1)])
        await uplink.close()
    assert len(provider.asked) == 2
    told = " ".join([str(logged), caplog.text])
    assert not [word for word in ("secret", "Bearer", "t1", "t2") if f"{word} " in told or f"'{word}'" in told]


# -- TLS


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


def server_tls(authority: Authority, *, name: str = "localhost", days: int = 1, clients: Authority | None = None) -> ssl.SSLContext:
    """A server of this name; with `clients` it demands a certificate of theirs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue(name, days=days))
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients.path)
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_both_sides_know_each_other_by_certificate(authority: Authority, tmp_path: Path, version: ssl.TLSVersion) -> None:
    clients = Authority(tmp_path / "clients")
    certificate, key = clients.issue("line-pc-07")
    context = server_tls(authority, clients=clients)
    context.minimum_version = context.maximum_version = version
    erp = Erp(tls=context)
    await erp.start()
    uplink = http_uplink(erp.url, tls={"ca": str(authority.path), "certificate": str(certificate), "key": str(key)})
    try:
        await uplink.connect()
        assert (await uplink.deliver([entry(1)])).accepted == {1}
    finally:
        await uplink.close()
        await erp.stop()
    assert erp.sequences == [1]


class AnyAnswer(http.server.BaseHTTPRequestHandler):
    """Lets everybody in who comes as far as here."""

    def do_GET(self) -> None:
        body = b'{"commands": [], "cursor": "1"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        return


class BlockingServer(http.server.ThreadingHTTPServer):
    """A server of blocking sockets says by a TLS alert why it hangs up, as servers do; those of asyncio just hang up."""

    block_on_close = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        return

    def shutdown_request(self, request: Any) -> None:
        # What the client has sent meanwhile is read: closing over it resets the connection, and the alert may be lost with it.
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_WR)
            request.settimeout(5.0)
            while request.recv(4096):
                pass
        self.close_request(request)


class ImpatientClock(SystemClock):
    """Repeats at once what the uplink would repeat after a moment."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


async def refused(context: ssl.SSLContext, **tls: Any) -> str:
    """What a person is told to do about a connection that must not come about."""
    with BlockingServer(("127.0.0.1", 0), AnyAnswer) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        serving.start()
        files = {key: str(path) for key, path in tls.items()}
        uplink = http_uplink(f"https://localhost:{server.server_port}/x", tls=files, clock=ImpatientClock())
        try:
            with pytest.raises(UplinkError) as caught:
                await uplink.connect()
        finally:
            await uplink.close()
            server.shutdown()
            serving.join()
    assert caught.value.remedy is not None
    assert caught.value.remedy.fr
    return caught.value.remedy.en


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_without_our_certificate_or_with_a_foreign_one_there_is_no_link(
    authority: Authority, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    clients, strangers = Authority(tmp_path / "clients"), Authority(tmp_path / "strangers")
    context = server_tls(authority, clients=clients)
    context.minimum_version = context.maximum_version = version
    assert "demands a client certificate" in await refused(context, ca=authority.path)
    certificate, key = strangers.issue("line-pc-07")
    assert "refuses our client certificate" in await refused(context, ca=authority.path, certificate=certificate, key=key)
    certificate, key = clients.issue("line-pc-07", days=-1)
    assert "refuses our client certificate" in await refused(context, ca=authority.path, certificate=certificate, key=key)


async def test_a_server_that_is_not_the_erp_is_refused_with_what_to_do(authority: Authority, tmp_path: Path) -> None:
    foreign = Authority(tmp_path / "foreign")
    assert "`tls: {ca: ...}`" in await refused(server_tls(foreign), ca=authority.path)
    assert "another name" in await refused(server_tls(authority, name="erp.acme.lan"), ca=authority.path)
    assert "has expired" in await refused(server_tls(authority, days=-1), ca=authority.path)


async def test_a_server_without_tls_at_an_https_address_is_refused(erp: Erp, authority: Authority) -> None:
    uplink = http_uplink(erp.url.replace("http:", "https:"), tls={"ca": str(authority.path)})
    with pytest.raises(UplinkError) as caught:
        await uplink.connect()
    assert caught.value.remedy is not None
    assert "does not speak TLS" in caught.value.remedy.en
    assert erp.polls == []


async def test_nothing_older_than_tls_1_2_is_spoken(authority: Authority) -> None:
    context = server_tls(authority)
    # The level that Debian's OpenSSL allows TLS 1.1 at; without it the server would refuse by itself and prove nothing.
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match=r"TLSv1_1 is deprecated"):
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_1
    assert "TLS 1.2" in await refused(context, ca=authority.path)


async def test_tls_files_that_cannot_be_used_are_told_before_anything_is_sent(erp: Erp, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate\n")
    uplink = http_uplink(erp.url.replace("http:", "https:"), tls={"ca": str(tmp_path / "ca.pem")})
    with pytest.raises(UplinkError) as caught:
        await uplink.connect()
    assert caught.value.remedy is not None
    assert "`tls` files" in caught.value.remedy.en


# -- dry run


async def test_a_dry_run_logs_every_posting_and_sends_none(erp: Erp) -> None:
    rows = [entry(number) for number in range(1, 251)]
    alerts = Alerts()
    uplink = http_uplink(erp.url, dry_run=True, alerts=alerts)
    with structlog.testing.capture_logs() as logged:
        await uplink.connect()
        for _ in range(2):
            for start in (0, 200):
                receipt = await uplink.deliver(rows[start : start + 200])
                assert receipt.withheld
                assert not receipt.accepted
        await uplink.close()
    postings = [line for line in logged if line["event"] == "posting_withheld"]
    assert [(line["key"], line["events"]) for line in postings] == [(rows[199].id, 200), (rows[249].id, 50)]
    assert [line["body"].encode() for line in logged if line["event"] == "event_withheld"] == [row.body for row in rows]
    assert erp.posts == []
    assert erp.polls, "orders are taken"
    assert list(alerts.up) == ["uplink.dry_run:erp"]
    uplink = http_uplink(erp.url)
    await uplink.connect()
    await uplink.deliver(rows[:200])
    assert erp.sequences == list(range(1, 201)), "what was only logged is still owed"
    await uplink.close()

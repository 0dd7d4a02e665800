"""MQTT over TLS with a real broker that demands a client certificate: what fits is taken, what does not is said with a remedy."""

from __future__ import annotations

import gc
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.seams import UplinkError
from tests.uplink.brokers import Mosquitto
from tests.uplink.certificates import Authority
from tests.uplink.conftest import mqtt_uplink
from tests.uplink.doubles import entry

pytestmark = [
    pytest.mark.slow,
    # paho leaves the socket of a failed handshake to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def site(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "site")


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "stranger")


@pytest.fixture
async def broker(tmp_path: Path, site: Authority) -> AsyncIterator[Mosquitto]:
    certificate, key = site.issue("localhost")
    found = Mosquitto(
        tmp_path / "broker", f"cafile {site.path}", f"certfile {certificate}", f"keyfile {key}", "require_certificate true"
    )  # fmt: skip
    await found.start()
    yield found
    found.kill()
    gc.collect()


def tls(authority: Authority, pair: tuple[Path, Path] | None = None) -> dict[str, str]:
    return {"ca": str(authority.path), **({"certificate": str(pair[0]), "key": str(pair[1])} if pair else {})}


async def refused(url: str, settings: dict[str, str]) -> UplinkError:
    uplink = mqtt_uplink(url, tls=settings)
    with pytest.raises(UplinkError) as found:
        await uplink.connect()
    await uplink.close()
    return found.value


async def test_a_client_certificate_of_the_site_is_let_in(broker: Mosquitto, site: Authority) -> None:
    uplink = mqtt_uplink(f"mqtts://localhost:{broker.port}", tls=tls(site, site.issue("line-pc-07")))
    await uplink.connect()
    connection = uplink._connection
    assert connection is not None
    assert connection._client is not None
    sock = connection._client.socket()
    assert isinstance(sock, ssl.SSLSocket)
    assert sock.version() in ("TLSv1.2", "TLSv1.3")
    assert (await uplink.deliver([entry(n) for n in range(1, 101)])).accepted == frozenset(range(1, 101))
    await uplink.close()


async def test_no_client_certificate(broker: Mosquitto, site: Authority) -> None:
    error = await refused(f"mqtts://localhost:{broker.port}", tls(site))
    assert error.remedy is not None, str(error)
    assert "client certificate" in error.remedy.en


async def test_a_client_certificate_of_another_authority(broker: Mosquitto, site: Authority, stranger: Authority) -> None:
    error = await refused(f"mqtts://localhost:{broker.port}", tls(site, stranger.issue("line-pc-07")))
    assert error.remedy is not None, str(error)
    # The broker's own word comes after the handshake, and may be lost with the connection.
    assert "client certificate" in error.remedy.en


async def test_an_expired_client_certificate(broker: Mosquitto, site: Authority) -> None:
    error = await refused(f"mqtts://localhost:{broker.port}", tls(site, site.issue("line-pc-07", days=-1)))
    assert error.remedy is not None, str(error)
    # The broker's own word comes after the handshake, and may be lost with the connection.
    assert "client certificate" in error.remedy.en


async def test_a_broker_of_an_authority_that_is_not_ours(broker: Mosquitto, site: Authority, stranger: Authority) -> None:
    error = await refused(f"mqtts://localhost:{broker.port}", tls(stranger, site.issue("line-pc-07")))
    assert error.remedy is not None, str(error)
    assert "authority" in error.remedy.en
    assert "CERTIFICATE_VERIFY_FAILED" in str(error)


async def test_a_broker_of_another_name(broker: Mosquitto, site: Authority) -> None:
    error = await refused(f"mqtts://127.0.0.1:{broker.port}", tls(site, site.issue("line-pc-07")))
    assert error.remedy is not None, str(error)
    assert "another name" in error.remedy.en


async def test_a_brokers_certificate_that_has_ended(tmp_path: Path, site: Authority) -> None:
    certificate, key = site.issue("localhost", days=-1)
    old = Mosquitto(tmp_path / "old", f"certfile {certificate}", f"keyfile {key}")
    await old.start()
    try:
        error = await refused(f"mqtts://localhost:{old.port}", tls(site))
        assert error.remedy is not None, str(error)
        assert "expired" in error.remedy.en
    finally:
        old.kill()


async def test_what_does_not_speak_tls(mosquitto: Mosquitto, site: Authority) -> None:
    error = await refused(f"mqtts://localhost:{mosquitto.port}", tls(site))
    assert "localhost" in str(error)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
async def test_nothing_below_tls_1_2(tmp_path: Path, site: Authority) -> None:
    certificate, key = site.issue("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.load_cert_chain(certificate, key)
    server = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        connection, _ = server.accept()
        with connection:
            try:
                context.wrap_socket(connection, server_side=True).close()
            except OSError:
                return

    thread = threading.Thread(target=accept)
    thread.start()
    error = await refused(f"mqtts://localhost:{server.getsockname()[1]}", tls(site))
    thread.join()
    server.close()
    assert error.remedy is not None, str(error)
    assert "TLS 1.2" in error.remedy.en

"""What the site may write about its uplinks."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from gateway.uplink.kinds import UplinkSettings, peer_of
from gateway.uplink.settings import HttpSettings, MqttSettings, is_loopback

ADAPTER: TypeAdapter[MqttSettings | HttpSettings] = TypeAdapter(UplinkSettings)
MQTT: dict[str, Any] = {"type": "mqtt", "urls": ["mqtts://broker-1:8883", "mqtts://broker-2"]}
HTTP: dict[str, Any] = {"type": "http", "url": "https://erp.acme.lan/lineside"}

OAUTH2: dict[str, Any] = {"token_url": "https://id.acme.lan/token", "client_id": "line-pc-07", "client_secret": {"credential": "erp"}}


def test_the_example_of_the_documentation_loads() -> None:
    plant = ADAPTER.validate_python(
        {
            **MQTT,
            "protocol": "auto",
            "user": {"name": "line-pc-07", "password": {"credential": "mqtt"}},
            "root": "lineside/v1",
            "consumers": ["mes"],
        }
    )
    assert isinstance(plant, MqttSettings)
    assert plant.addresses() == (("broker-1", 8883, True), ("broker-2", 8883, True))
    assert not plant.plain_text()
    erp = ADAPTER.validate_python({**HTTP, "token": {"credential": "erp"}})
    assert isinstance(erp, HttpSettings)
    assert erp.address() == ("erp.acme.lan", 443, True)
    assert erp.interval == 5.0
    assert peer_of(erp) == "ERP erp.acme.lan:443"
    assert peer_of(plant) == "MQTT broker-1:8883"


@pytest.mark.parametrize(("written", "read"), [(5, "5"), ("5", "5"), ("3.1.1", "3.1.1"), ("auto", "auto")])
def test_protocol_as_yaml_reads_it(written: object, read: str) -> None:
    plant = MqttSettings.model_validate({**MQTT, "protocol": written})
    assert plant.protocol == read


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({**MQTT, "urls": []}, "at least 1"),
        ({**MQTT, "urls": ["broker-1:8883"]}, "mqtt://"),
        ({**MQTT, "urls": ["mqtt://broker-1"]}, "plain text"),
        ({**MQTT, "urls": ["mqtts://broker-1:port"]}, "not an address"),
        ({**MQTT, "urls": ["mqtts://"]}, "no host"),
        ({**MQTT, "urls": ["mqtts://me:secret@broker-1"]}, "password"),
        ({**MQTT, "urls": ["mqtts://broker-1/path"]}, "host and port"),
        ({**MQTT, "urls": ["mqtts://a", "mqtts://a"]}, "twice"),
        ({**MQTT, "consumers": ["mes", "mes"]}, "twice"),
        ({**MQTT, "protocol": "4"}, "auto"),
        ({**MQTT, "root": "a//b"}, "pattern"),
        ({**MQTT, "root": "a/+"}, "pattern"),
        ({**MQTT, "urls": ["mqtt://127.0.0.1"], "tls": {"ca": "x.pem"}}, "mqtts://"),
        ({**MQTT, "tls": {"certificate": "x.pem"}}, "belong together"),
        ({**MQTT, "colour": 1}, "Extra"),
        ({**HTTP, "url": "http://erp.acme.lan"}, "plain text"),
        ({**HTTP, "url": "ftp://erp.acme.lan"}, "https://"),
        ({**HTTP, "url": "https://erp.acme.lan/?a=1"}, "query"),
        ({**HTTP, "interval": "5"}, "unit"),
        ({**HTTP, "priority_order": "random"}, "lowest_first"),
        ({**HTTP, "token": "inline"}, "never written in the file"),
        ({**HTTP, "oauth2": {**OAUTH2, "client_secret": "inline"}}, "never written in the file"),
        ({**HTTP, "oauth2": {**OAUTH2, "token_url": "http://id.acme.lan/token"}}, "plain text"),
        ({**HTTP, "oauth2": {**OAUTH2, "token_url": "id.acme.lan"}}, "https://"),
        ({**HTTP, "oauth2": {**OAUTH2, "method": "none"}}, "client_secret_post"),
        ({**HTTP, "oauth2": {**OAUTH2, "token_url": "http://127.0.0.1/t", "tls": {"ca": "x.pem"}}}, "https:// address only"),
        ({**HTTP, "oauth2": OAUTH2, "token": {"credential": "erp"}}, "keep `token` or `oauth2`"),
        ({"type": "fax"}, "fax"),
    ],
)
def test_what_is_refused_says_why(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ADAPTER.validate_python(settings, context={"folder": "/etc/lineside"})
    assert says in str(caught.value)


def test_plain_text_is_for_loopback_or_by_consent() -> None:
    assert not MqttSettings(type="mqtt", urls=("mqtt://localhost", "mqtt://[::1]:1884", "mqtt://127.9.9.9")).plain_text()
    assert MqttSettings(type="mqtt", urls=("mqtt://broker-1",), insecure=True).plain_text()
    assert HttpSettings(type="http", url="http://erp.acme.lan", insecure=True).plain_text()
    assert not HttpSettings(type="http", url="http://127.0.0.1:8069/x").plain_text()
    assert HttpSettings.model_validate({**HTTP, "oauth2": {**OAUTH2, "token_url": "http://id.acme.lan/t"}, "insecure": True}).plain_text()
    assert not HttpSettings.model_validate({**HTTP, "oauth2": OAUTH2}).plain_text()
    assert not is_loopback("127.0.0.1.evil.example")

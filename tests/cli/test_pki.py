"""`lineside pki`: what lies in the folders, who is believed, and the gateway's own certificate for the PLC."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from drivers.opcua_certificates import application_uris, thumbprint
from drivers.opcua_pki import REJECTED_KEPT, Pki, prepare
from gateway.__main__ import main
from tests.config.plant import BASE, write
from tests.drivers import opcua_certificates as make
from tests.drivers.opcua_certificates import Authority, der, put

SECURED = "{policy: Basic256Sha256, mode: SignAndEncrypt, server_certificate: press.der}"
PRESS = f"  press: {{driver: opcua, url: opc.tcp://192.0.2.3:4840, security: {SECURED}, tags: {{a: {{node: ns=2;i=1}}}}}}\n"


class Desk:
    """A technician at the command line, with a state directory and a configuration."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.state = folder / "state"
        self.state.mkdir()
        self.pki = Pki(self.state)
        self.config = write(folder, BASE.replace("devices:\n", "devices:\n" + PRESS))
        self._capsys = capsys

    def __call__(self, *words: str, config: bool = False) -> tuple[int, str]:
        more = ["-c", str(self.config)] if config else []
        code = main(["pki", *words, *more, "--state-dir", str(self.state)])
        said = self._capsys.readouterr()
        return code, said.out + said.err


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


def test_an_unknown_server_is_seen_trusted_and_rejected_again(desk: Desk) -> None:
    certificate = make.make(hosts=("192.0.2.3", "press-07"), days=100.5)
    mark = thumbprint(certificate)
    desk.pki.keep_rejected(certificate)
    code, said = desk("list")
    assert code == 0
    assert f"rejected  {mark}  plc  urn:test:plc:server  press-07 192.0.2.3  until" in said
    assert "(100 days left)" in said
    code, said = desk("trust", mark[:8].lower() + ".")  # as copied from the sentence
    assert code == 0
    assert "at its next try" in said
    assert desk.pki.trusted() == [certificate]
    assert desk.pki.files("rejected") == []
    code, said = desk("show", ":".join(mark[i : i + 2] for i in range(0, 40, 2)))
    assert code == 0
    assert f"thumbprint   {mark}" in said
    assert "RSA 2048" in said
    code, said = desk("reject", mark)
    assert code == 0
    assert "restart the gateway" in said
    assert desk.pki.trusted() == []
    assert [path.name for path in desk.pki.files("rejected")] == [f"{mark}.der"]


def test_an_authority_comes_as_a_file(desk: Desk, tmp_path: Path) -> None:
    authority = Authority().certificate()
    code, said = desk("trust", str(put(tmp_path, "site.crt", der(authority))))
    assert code == 0
    assert "site authority" in said
    assert desk.pki.trusted() == [authority]
    code, said = desk("trust", str(put(tmp_path, "note.txt", b"no certificate")))
    assert code == 2
    assert "holds no certificate; give a certificate in DER or PEM" in said


def test_the_list_names_what_cannot_be_used(desk: Desk) -> None:
    put(desk.pki.folder / "trusted", "notes.txt", b"call Paul")
    put(desk.pki.folder / "trusted", "old.der", der(make.make(days=-0.1)))
    put(desk.pki.folder / "crl", "site.crl", Authority().revoke(make.make()))
    put(desk.pki.folder / "crl", "half.crl", b"\x30\x82")
    put(desk.config.parent, "press.der", der(make.make()))
    code, said = desk("list", config=True)
    assert code == 0
    for words in (
        "notes.txt: no certificate", "(EXPIRED)", "site.crl: 1 revoked by CN=site authority", "half.crl: no list", "pinned    press: ",
        "own       not made yet",
    ):  # fmt: skip
        assert words in said
    (desk.config.parent / "press.der").unlink()
    assert "press.der cannot be used" in desk("list", config=True)[1]


def test_the_own_certificate_is_made_shown_and_saved(desk: Desk, tmp_path: Path) -> None:
    code, said = desk("show", "own")
    assert code == 2
    assert "name its configuration with -c CONFIG" in said
    for name in ("gateway.der", "gateway.pem"):
        code, said = desk("show", "own", "--save", str(tmp_path / name), config=True)
        assert code == 0
        assert "application  urn:lineside:g" in said
    saved = x509.load_der_x509_certificate((tmp_path / "gateway.der").read_bytes())
    assert x509.load_pem_x509_certificate((tmp_path / "gateway.pem").read_bytes()) == saved
    assert desk.pki.key_file.stat().st_mode & 0o777 == 0o600
    assert desk.pki.key_file.parent.stat().st_mode & 0o777 == 0o700
    assert b"PRIVATE" not in (tmp_path / "gateway.pem").read_bytes()


def test_renewing_keeps_the_key_and_says_what_is_to_be_done(desk: Desk) -> None:
    now = datetime.now(UTC)
    before = prepare(desk.state, "g", now - timedelta(days=5 * 365 - 30))
    assert prepare(desk.state, "g", now).certificate == before.certificate
    code, said = desk("renew")
    assert code == 0
    assert "trust it in every PLC" in said
    after = prepare(desk.state, "g", now)
    assert after.certificate != before.certificate
    assert after.key == before.key
    assert after.application_uri == "urn:lineside:g"
    renamed = prepare(desk.state, "h", now)
    assert application_uris(renamed.certificate) == ("urn:lineside:h",)
    assert renamed.key == before.key


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("trust", "0123456789"), "no certificate 0123456789 among rejected and trusted of"),
        (("trust", "01"), "8 digits or more"),
        (("trust", "plc/press.der"), "there is no file plc/press.der"),
        (("reject", "0123456789"), "no certificate 0123456789 among trusted"),
        (("show", "0123456789"), "no certificate 0123456789"),
        (("renew",), "name its configuration with -c CONFIG"),
    ],
)
def test_what_is_not_there_is_told_with_a_remedy(words: tuple[str, ...], told: str, desk: Desk) -> None:
    code, said = desk(*words)
    assert code == 2
    assert told in said
    assert "expert: " in said


def test_a_key_that_is_none_is_told(desk: Desk) -> None:
    put(desk.pki.folder / "own", "gateway.pem", b"no key")
    code, said = desk("show", "own", config=True)
    assert code == 2
    assert "give the folder pki to the service's account" in said


def test_strangers_do_not_fill_the_disk(desk: Desk) -> None:
    shown = make.make()
    for number in range(REJECTED_KEPT):
        old = put(desk.pki.folder / "rejected", f"{number}.der", der(shown))
        os.utime(old, (number, number))
    desk.pki.keep_rejected(shown)
    names = [path.name for path in desk.pki.files("rejected")]
    assert len(names) == REJECTED_KEPT
    assert f"{thumbprint(shown)}.der" in names
    assert "0.der" not in names

"""Order files: which are whole, what they bring, and where they go once their orders are in the ledger.

Looking touches nothing. A file is moved only after the commit, and is moved out of the ERP's reach before it is compared once more with
what was read: a file that the ERP wrote anew in between is never taken for the one that was read.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gateway.domain.events import Text
from gateway.uplink.erp.files.b2mml_tree import MAX_BYTES
from gateway.uplink.erp.files.disk import Disk, Found, Kind
from gateway.uplink.erp.files.faults import Fault, Unreadable, complaints, explanation, shown
from gateway.uplink.erp.files.orders import Orders, PlanMaker
from gateway.uplink.erp.port import Plan

MOST_ORDERS = 500
"""In one look, so that one commit stays short; the rest waits for the next."""

MOST_TOLD = 50
"""Files in the error folder that are told one by one; more than that nobody reads."""

_TEMPORARY = re.compile(
    r"^[.~#]|~$|\.(tmp|temp|part|partial|filepart|crdownload|download|swp|lock|writing|err)$|^(thumbs\.db|desktop\.ini)$", re.IGNORECASE
)
"""Names of files that are being written, and of what desktops leave behind."""


@dataclass(frozen=True)
class InHand:
    """A file that was looked at and must leave the inbox. `digest` None: it was not read. `finished`: its orders are in the ledger since
    before an interruption."""

    found: Found
    path: Path
    digest: str | None = None
    plans: Sequence[tuple[Plan, Text]] = ()
    faults: Sequence[Fault] = ()
    finished: bool = False


class Inbox:
    def __init__(
        self,
        disk: Disk,
        folders: tuple[Path, Path, Path],
        *,
        read: Callable[[bytes], Orders],
        plans: PlanMaker,
        settle_s: float,
        grace_s: float,
    ) -> None:
        """`folders`: inbox, archive, error."""
        self._disk = disk
        self._inbox, self._archive, self._error = folders
        self._taking = self._archive / ".taking"
        self._taken = self._archive / ".taken"
        self._read = read
        self._plans = plans
        self._settle_s = settle_s
        self._grace_s = grace_s
        self._told: dict[Found, list[str]] = {}
        """What each `.err` says, read once."""
        self._seen: dict[Path, tuple[Found, float]] = {}
        """Since when an entry has not changed, by the monotonic clock: the share's own clock may be wrong."""

    def open(self) -> None:
        """Raises OSError, EXDEV where a file cannot be renamed from one folder to the other."""
        for folder in (self._taking, self._taken):
            self._disk.make(folder)
        probe = ".lineside-probe"
        self._disk.write(self._taking / probe, b"")
        self._disk.move(self._taking / probe, self._error / probe)
        self._disk.move(self._error / probe, self._inbox / probe)
        self._disk.move(self._inbox / probe, self._taking / probe)
        self._disk.remove(self._taking / probe)

    # -- looking

    def look(self, now_s: float) -> list[InHand]:
        """The files that are whole, the oldest first. Raises OSError when a folder cannot be read."""
        taking = [(self._taking / found.name, found) for found in self._disk.look(self._taking)]
        busy = {found.name for _, found in taking}
        inbox = [
            (self._inbox / found.name, found)
            for found in sorted(self._disk.look(self._inbox), key=lambda each: (each.changed_ns, each.name))
            if not _TEMPORARY.search(found.name) and found.name not in busy
        ]
        entries = [*taking, *inbox]
        self._seen = {
            path: seen if (seen := self._seen.get(path)) is not None and seen[0] == found else (found, now_s) for path, found in entries
        }
        hands: list[InHand] = []
        keys: set[str] = set()
        for path, found in entries:
            quiet_s = now_s - self._seen[path][1]
            hand = self._judge(path, found, quiet_s) if quiet_s >= self._settle_s else None
            if hand is None:
                continue
            of_hand = {plan.key for plan, _ in hand.plans}
            if len(keys) + len(of_hand) > MOST_ORDERS and keys:
                break
            if not keys & of_hand:
                hands.append(hand)
            # A later word about the same order waits until the earlier one is in the ledger, and what comes after it waits for it.
            keys |= of_hand
        return hands

    def _judge(self, path: Path, found: Found, quiet_s: float) -> InHand | None:
        """None: not yet."""
        if found.kind is not Kind.FILE:
            stays = found.kind is not Kind.LINK
            if stays and self._disk.exists(self._error / f"{_short(found.name)}.err"):
                return None
            return InHand(found, path, faults=[_NO_FILE[found.kind]])
        if found.size > MAX_BYTES:
            return InHand(found, path, faults=[_TOO_LARGE])
        try:
            data = self._disk.read(path, MAX_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.ELOOP):
                raise
            return InHand(found, path, faults=[_NOT_READABLE])
        if len(data) > MAX_BYTES:
            return InHand(found, path, faults=[_TOO_LARGE])
        digest = hashlib.sha256(data).hexdigest()[:32]
        known = self._known(found.name, digest)
        if known is not None:
            return InHand(found, path, digest, faults=[] if known is _UNFINISHED else [known], finished=known is _UNFINISHED)
        try:
            orders = self._read(data)
        except Unreadable as error:
            if error.may_grow and quiet_s < self._grace_s:
                return None
            return InHand(found, path, digest, faults=[error.fault])
        plans, faults = self._plans.plans(orders.drafts)
        faults = [*orders.faults, *faults]
        if not plans and not faults:
            faults.append(_NO_ORDERS)
        return InHand(found, path, digest, plans, faults)

    @property
    def is_empty(self) -> bool:
        """Whether the last look saw no file at all."""
        return not self._seen

    def waiting(self) -> list[str]:
        """What lies in the error folder and waits for somebody, a sentence each. Raises OSError."""
        found = [each for each in self._disk.look(self._error) if each.kind is Kind.FILE and each.name.endswith(".err")]
        for each in found[:MOST_TOLD]:
            if each not in self._told:
                with suppress(FileNotFoundError):
                    self._told[each] = complaints(self._disk.read(self._error / each.name, MAX_BYTES))
        self._told = {each: self._told[each] for each in found if each in self._told}
        return [text for texts in self._told.values() for text in texts]

    # -- what was taken before

    def _known(self, name: str, digest: str) -> Fault | None:
        """What an earlier file has to say against this one: nothing, `_UNFINISHED`, or why it is not read."""
        by_name = self._mark(self._taken / f"n-{_hash(name)}")
        by_content = self._mark(self._taken / f"c-{digest}")
        if by_content is not None and by_content["name"] == name:
            return _again(by_content) if self._disk.exists(self._place(by_content)) else _UNFINISHED
        if by_content is not None:
            return _renamed(by_content)
        return _name_used(by_name) if by_name is not None else None

    def _mark(self, path: Path) -> dict[str, str] | None:
        try:
            found: dict[str, str] = json.loads(self._disk.read(path, MAX_BYTES))
        except FileNotFoundError:
            return None
        return found

    def _place(self, mark: Mapping[str, str]) -> Path:
        """Where the file of this mark belongs; the folders themselves may have been moved since."""
        return (self._error if mark["folder"] == "error" else self._archive) / mark["as"]

    def _remember(self, hand: InHand, target: Path, at: str) -> None:
        folder = "error" if target.parent == self._error else "archive"
        body = json.dumps({"name": hand.found.name, "at": at, "folder": folder, "as": target.name}).encode()
        for name in (f"c-{hand.digest}", f"n-{_hash(hand.found.name)}"):
            self._disk.write(self._taken / f".{name}", body)
            self._disk.move(self._taken / f".{name}", self._taken / name)

    # -- moving

    def settle(self, hand: InHand, answers: Mapping[str, str | None], at: str) -> None:
        """The plans of this file are in the ledger: it goes to where it belongs. Raises OSError; what is left comes again."""
        if hand.finished:
            by_content = self._mark(self._taken / f"c-{hand.digest}")
            if by_content is not None:
                self._carry(hand, self._place(by_content))
            return
        if any(plan.key not in answers for plan, _ in hand.plans):
            return
        faults = [*hand.faults, *_refused(hand.plans, answers)]
        if not hand.plans:
            self._turn_away(hand, at, faults)
            return
        taken = [plan.job_order.job_order_id for plan, _ in hand.plans if answers[plan.key] is None]
        target = self._free(self._error if faults else self._archive, hand.found.name)
        if faults:
            self._explain(target, hand, at, faults, taken)
        self._remember(hand, target, at)
        self._carry(hand, target)

    def _turn_away(self, hand: InHand, at: str, faults: Sequence[Fault]) -> None:
        """A file of which nothing was taken; its name stays free for a corrected one."""
        if hand.found.kind in (Kind.FOLDER, Kind.OTHER):
            self._explain(self._error / _short(hand.found.name), hand, at, faults, ())
            return
        if not self._claim(hand):
            return
        target = self._free(self._error, hand.found.name)
        self._explain(target, hand, at, faults, ())
        self._disk.move(self._taking / hand.found.name, target)

    def _carry(self, hand: InHand, target: Path) -> None:
        if self._claim(hand):
            self._disk.move(self._taking / hand.found.name, target)

    def _claim(self, hand: InHand) -> bool:
        """Out of the ERP's reach. False: the ERP took it back or wrote it anew; what lies there now is looked at as a file of its own."""
        claimed = self._taking / hand.found.name
        if hand.path != claimed:
            try:
                self._disk.move(hand.path, claimed)
            except FileNotFoundError:
                return False
            except OSError as error:
                if error.errno not in (errno.EBUSY, errno.ETXTBSY):
                    raise
                # Somebody on the share has it open: it goes with a later look.
                return False
        if hand.digest is None:
            return any(each == hand.found for each in self._disk.look(self._taking))
        return hashlib.sha256(self._disk.read(claimed, MAX_BYTES)).hexdigest()[:32] == hand.digest

    def _free(self, folder: Path, name: str) -> Path:
        """A name in `folder` that is not in use: the file's own, else with a number before its ending."""
        stem, dot, ending = _short(name).rpartition(".")
        candidate, number = _short(name), 1
        while self._disk.exists(folder / candidate):
            number += 1
            candidate = f"{stem}.{number}{dot}{ending}"
        return folder / candidate

    def _explain(self, target: Path, hand: InHand, at: str, faults: Sequence[Fault], taken: Sequence[str]) -> None:
        self._disk.write(self._error / f"{target.name}.err", explanation(hand.found.name, at, faults, taken))


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:32]


def _short(name: str) -> str:
    """Names may be 255 bytes long, and ours get an ending."""
    return name if len(name.encode(errors="surrogateescape")) <= 200 else f"{name[:40]}={_hash(name)}"


def _refused(plans: Sequence[tuple[Plan, Text]], answers: Mapping[str, str | None]) -> Iterator[Fault]:
    for plan, where in plans:
        why = answers.get(plan.key)
        if why is not None:
            order = plan.job_order.job_order_id
            yield Fault(
                Text(
                    f"l'ordre {order} est refusé par la ligne : {why} ; le corriger et l'envoyer dans un nouveau fichier.",
                    f"the order {order} is refused by the line: {why}; correct it and send it in a new file.",
                ),
                where,
            )


_UNFINISHED = Fault(Text("déjà pris, rangement interrompu.", "taken before, its move was interrupted."))
_NO_ORDERS = Fault(Text("le fichier n'a aucun ordre ; l'écrire avec ses ordres.", "the file has no order; write it with its orders."))
_TOO_LARGE = Fault(
    Text(
        f"le fichier dépasse {MAX_BYTES // 1024 // 1024} Mio ; le partager en plusieurs.",
        f"the file is over {MAX_BYTES // 1024 // 1024} MiB; divide it into several.",
    ),
    code="too_large",
)
_NOT_READABLE = Fault(
    Text(
        "la passerelle n'a pas le droit de lire ce fichier ; donner ce droit et le redéposer.",
        "the gateway may not read this file; grant it that right and put the file in again.",
    )
)
_NO_FILE = {
    Kind.LINK: Fault(
        Text("c'est un lien et non un fichier ; déposer le fichier lui-même.", "it is a link and no file; put in the file itself.")
    ),
    Kind.FOLDER: Fault(Text("c'est un dossier et non un fichier ; l'enlever d'ici.", "it is a folder and no file; remove it from here.")),
    Kind.OTHER: Fault(Text("ce n'est pas un fichier ; l'enlever d'ici.", "it is no file; remove it from here.")),
}


def _again(mark: Mapping[str, str]) -> Fault:
    return _harmless(
        f"ce fichier a déjà été pris le {mark['at']} ; rien n'a changé, il n'y a rien à faire.",
        f"this file was taken already on {mark['at']}; nothing has changed, there is nothing to do.",
    )


def _renamed(mark: Mapping[str, str]) -> Fault:
    return _harmless(
        f"le même contenu a été pris le {mark['at']} sous le nom {shown(mark['name'])} ; rien n'a changé, n'envoyer que du nouveau.",
        f"the same content was taken on {mark['at']} as {shown(mark['name'])}; nothing has changed, send only what is new.",
    )


def _harmless(fr: str, en: str) -> Fault:
    return Fault(Text(fr, en), is_harmless=True)


def _name_used(mark: Mapping[str, str]) -> Fault:
    return Fault(
        Text(
            f"un fichier de ce nom a été pris le {mark['at']} avec un autre contenu ; donner un nouveau nom à chaque fichier.",
            f"a file of this name was taken on {mark['at']} with other content; give every file a new name.",
        )
    )

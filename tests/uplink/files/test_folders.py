"""What happens to every kind of file that can lie in the inbox, through the port, on real folders."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.seams import UplinkError
from gateway.uplink.erp.files.disk import Disk
from gateway.uplink.erp.files.port import FilesPort
from gateway.uplink.erp.port import ErpOrder, Listing, Standing
from tests.uplink.files import exchange
from tests.uplink.files.exchange import HEADER, Clock

GOOD = f"{HEADER}\nOF-1;press-07;ART-1;10;C62\n"


class QuietDisk(Disk):
    """Without fsync, which a busy disk makes slow; `test_what_is_written_is_on_disk_before_it_is_renamed` looks at that."""

    def write(self, path: Path, data: bytes) -> None:
        path.write_bytes(data)

    def sync(self, folder: Path) -> None:
        pass


class Place:
    """One port on its folders, asked with a pause long enough for every file to settle."""

    def __init__(self, folder: Path, disk: Disk | None = None, **changed: Any) -> None:
        self.folder = folder
        self.clock = Clock()
        self.port: FilesPort = exchange.port(folder, self.clock, disk or QuietDisk(), **{"grace": 60.0, **changed})

    def put(self, name: str, content: str | bytes) -> Path:
        path = self.folder / "inbox" / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    async def poll(self, refuse: str | None = None, *, pause_s: float = 1.0) -> Listing:
        """Two looks, the second one after `pause_s`; what it lists is taken."""
        await self.port.list_orders({})
        self.clock.advance(pause_s)
        listing = await self.port.list_orders({})
        await self.port.taken(listing, {plan.key: refuse for plan in listing.plans})
        return listing

    def err(self, name: str) -> str:
        return (self.folder / "error" / f"{name}.err").read_text()

    def names(self, folder: str) -> list[str]:
        return sorted(path.name for path in (self.folder / folder).iterdir() if not path.name.startswith("."))


@pytest.fixture
async def place(tmp_path: Path) -> Place:
    found = Place(tmp_path)
    await found.port.connect()
    return found


async def test_a_good_file_goes_to_the_archive(place: Place) -> None:
    place.put("orders.csv", GOOD)
    listing = await place.poll()
    assert [plan.key for plan in listing.plans] == ["OF-1"]
    assert listing.is_complete is False
    assert (place.names("inbox"), place.names("archive"), place.names("error")) == ([], ["orders.csv"], [])


async def test_looking_touches_nothing(place: Place) -> None:
    place.put("orders.csv", GOOD)
    place.put("broken.csv", "a;b\n1;2\n")
    await place.port.list_orders({})
    place.clock.advance(1.0)
    listing = await place.port.list_orders({})
    assert (len(listing.plans), len(listing.refusals)) == (1, 1)
    assert place.names("inbox") == ["broken.csv", "orders.csv"]


async def test_a_file_that_still_changes_is_left_alone(place: Place) -> None:
    path = place.put("orders.csv", GOOD)
    await place.port.list_orders({})
    path.write_text(GOOD)
    await place.port.list_orders({})
    place.clock.advance(0.3)
    with path.open("a") as file:
        file.write("OF-2;press-07;ART-1;10;C62\n")
    place.clock.advance(0.3)
    assert (await place.port.list_orders({})).plans == []
    assert [plan.key for plan in (await place.poll()).plans] == ["OF-1", "OF-2"]


@pytest.mark.parametrize("name", ["orders.csv.tmp", ".orders.csv", "~orders.csv", "orders.csv.filepart", "orders.csv~", "Thumbs.db"])
async def test_temporary_names_are_left_alone(place: Place, name: str) -> None:
    place.put(name, GOOD)
    assert (await place.poll(pause_s=1e5)).plans == []
    assert [path.name for path in (place.folder / "inbox").iterdir()] == [name]


async def test_half_a_file_is_given_its_time_then_explained(place: Place) -> None:
    place.put("orders.csv", GOOD[:-4])
    assert (await place.poll(pause_s=30.0)).source == []
    assert place.names("inbox") == ["orders.csv"]
    await place.poll(pause_s=31.0)
    assert place.names("error") == ["orders.csv", "orders.csv.err"]
    said = place.err("orders.csv")
    assert "la dernière ligne n'a pas de fin" in said
    assert "the last line has no end" in said
    assert "Aucun ordre de ce fichier n'a été pris." in said


async def test_a_corrected_file_may_keep_its_name(place: Place) -> None:
    place.put("orders.csv", "a;b\n1;2\n")
    await place.poll()
    place.put("orders.csv", GOOD)
    assert len((await place.poll()).plans) == 1
    assert (place.names("archive"), place.names("error")) == (["orders.csv"], ["orders.csv", "orders.csv.err"])


async def test_the_same_file_again_is_told_and_not_taken(place: Place) -> None:
    place.put("orders.csv", GOOD)
    await place.poll()
    place.put("orders.csv", GOOD)
    assert (await place.poll()).plans == []
    assert "this file was taken already" in place.err("orders.csv")


async def test_the_same_content_under_another_name_is_told_and_not_taken(place: Place) -> None:
    place.put("orders.csv", GOOD)
    await place.poll()
    place.put("renamed.csv", GOOD)
    assert (await place.poll()).plans == []
    assert "the same content was taken" in place.err("renamed.csv")
    assert "as orders.csv" in place.err("renamed.csv")


async def test_a_used_name_with_other_content_is_told_and_not_taken(place: Place) -> None:
    place.put("orders.csv", GOOD)
    await place.poll()
    place.put("orders.csv", GOOD.replace("OF-1", "OF-2"))
    assert (await place.poll()).plans == []
    assert "give every file a new name" in place.err("orders.csv")


async def test_what_was_taken_is_known_after_a_restart_and_an_emptied_archive(place: Place) -> None:
    place.put("orders.csv", GOOD)
    await place.poll()
    (place.folder / "archive/orders.csv").unlink()
    (place.folder / "archive").rename(place.folder / "archive_2026")
    again = Place(place.folder, archive=str(place.folder / "archive_2026"))
    await again.port.connect()
    again.put("orders.csv", GOOD)
    again.put("renamed.csv", GOOD)
    assert (await again.poll()).plans == []


async def test_a_file_overwritten_between_look_and_move_is_not_archived_unread(place: Place) -> None:
    place.put("orders.csv", GOOD)
    await place.port.list_orders({})
    place.clock.advance(1.0)
    listing = await place.port.list_orders({})
    place.put("orders.csv", GOOD.replace("OF-1", "OF-2"))
    await place.port.taken(listing, {"OF-1": None})
    assert place.names("archive") == []
    await place.poll()
    assert "with other content" in place.err("orders.csv")


async def test_a_refused_order_is_explained_and_the_others_are_named(place: Place) -> None:
    place.put("orders.csv", f"{GOOD}OF-2;press-07;ART-1;-5;C62\n")
    await place.poll()
    said = place.err("orders.csv")
    assert "ligne 3" in said
    assert "line 3: quantity is no possible number; correct it." in said
    assert "Ordres pris: OF-1" in said
    assert (place.names("archive"), place.names("error")) == ([], ["orders.csv", "orders.csv.err"])


async def test_an_order_that_the_line_refuses_is_explained(place: Place) -> None:
    place.put("orders.csv", GOOD)
    await place.poll(refuse="the work unit's queue is full")
    assert "line 2: the order OF-1 is refused by the line: the work unit's queue is full; correct it" in place.err("orders.csv")


async def test_an_undecided_order_stays_in_the_inbox(place: Place) -> None:
    place.put("orders.csv", GOOD)
    await place.port.list_orders({})
    place.clock.advance(1.0)
    await place.port.taken(await place.port.list_orders({}), {})
    assert place.names("inbox") == ["orders.csv"]
    assert len((await place.poll()).plans) == 1


async def test_links_folders_and_pipes_are_explained(place: Place) -> None:
    secret = place.folder / "secret"
    secret.write_text(GOOD)
    (place.folder / "inbox/link.csv").symlink_to(secret)
    (place.folder / "inbox/folder").mkdir()
    os.mkfifo(place.folder / "inbox/pipe.csv")
    first = await place.poll()
    assert (first.plans, len(first.refusals)) == ([], 3)
    assert "it is a link and no file" in place.err("link.csv")
    assert "it is a folder and no file" in place.err("folder")
    assert "it is no file" in place.err("pipe.csv")
    assert secret.read_text() == GOOD
    assert place.names("inbox") == ["folder", "pipe.csv"]
    again = (await place.poll()).refusals
    assert [refusal.problem.text for refusal in again] == sorted(refusal.problem.text for refusal in first.refusals), "word for word"


async def test_what_lies_in_error_stays_told_until_it_is_taken_away(place: Place) -> None:
    place.put("orders.csv", "a;b\n1;2\n")
    (fresh,) = (await place.poll()).refusals
    (waiting,) = (await place.poll()).refusals
    assert waiting.problem.text == fresh.problem.text, "the same words, so that it is counted once"
    again = Place(place.folder)
    await again.port.connect()
    assert len((await again.poll()).refusals) == 1
    (place.folder / "error/orders.csv.err").unlink()
    assert (await place.poll()).refusals == []


async def test_a_repeated_file_asks_for_nothing(place: Place) -> None:
    place.put("orders.csv", GOOD)
    await place.poll()
    place.put("orders.csv", GOOD)
    assert len((await place.poll()).refusals) == 1
    assert "(rien à faire)" in place.err("orders.csv")
    assert (await place.poll()).refusals == []


async def test_a_file_that_may_not_be_read_is_explained(tmp_path: Path) -> None:
    class Closed(QuietDisk):
        def read(self, path: Path, limit: int) -> bytes:
            if path.name == "closed.csv" and path.parent.name in ("inbox", ".taking"):
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return super().read(path, limit)

    place = Place(tmp_path, Closed())
    await place.port.connect()
    place.put("closed.csv", GOOD)
    await place.poll()
    assert "the gateway may not read this file" in place.err("closed.csv")
    assert place.names("inbox") == []


async def test_a_file_that_is_too_large_is_not_read(place: Place) -> None:
    path = place.put("huge.csv", "")
    os.truncate(path, 1 << 40)
    await place.poll()
    assert "over 16 MiB" in place.err("huge.csv")


@pytest.mark.parametrize("name", ["é" * 120 + ".csv", b"caf\xe9.csv"])
async def test_odd_names_are_no_trouble(place: Place, name: str | bytes) -> None:
    path = os.fsencode(place.folder / "inbox") + b"/" + (name.encode() if isinstance(name, str) else name)
    with open(path, "wb") as file:
        file.write(b"a;b\n1;2\n")
    for refusal in (await place.poll()).refusals:
        assert refusal.problem.text.encode(), "it can be written anywhere"
    assert len(place.names("error")) == 2
    assert place.names("inbox") == []


async def test_a_later_word_about_an_order_waits_for_the_earlier_one(place: Place) -> None:
    first, second = place.put("b_first.csv", GOOD), place.put("a_second.csv", GOOD.replace(";10;", ";20;"))
    os.utime(first, (1_000, 1_000))
    os.utime(second, (2_000, 2_000))
    assert [plan.job_order.quantity for plan in (await place.poll()).plans] == [10]
    assert [plan.job_order.quantity for plan in (await place.poll()).plans] == [20]


async def test_a_missing_folder_is_a_link_that_is_down(tmp_path: Path) -> None:
    place = Place(tmp_path)
    (tmp_path / "outbox").rmdir()
    with pytest.raises(UplinkError, match="outbox: there is no folder") as caught:
        await place.port.connect()
    assert caught.value.remedy is not None
    assert "Create the folder" in caught.value.remedy.en
    rights = {right.name.split()[1]: right.words for right in await place.port.rights()}
    assert "No such file" in rights["outbox"]
    assert rights["inbox"] == ""


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EXDEV, "same file system"),
        (errno.EACCES, "right to write"),
        (errno.EROFS, "files.conf"),
        (errno.ENOSPC, "Free space"),
        (errno.ESTALE, "network share"),
    ],
)
async def test_what_the_disk_says_has_a_remedy(tmp_path: Path, number: int, remedy: str) -> None:
    class Broken(QuietDisk):
        def rename(self, source: Path, target: Path) -> None:
            raise OSError(number, os.strerror(number), str(source))

    with pytest.raises(UplinkError) as caught:
        await Place(tmp_path, Broken()).port.connect()
    assert caught.value.remedy is not None
    assert remedy in caught.value.remedy.en


async def test_what_is_written_is_on_disk_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File, then its folder, then the new name in its folder: the order that survives a power cut."""
    steps: list[str] = []
    real_fsync, real_rename = os.fsync, Path.rename

    def fsync(handle: int) -> None:
        steps.append(f"fsync {Path(os.readlink(f'/proc/self/fd/{handle}')).name}")
        real_fsync(handle)

    def rename(source: Path, target: Path) -> Path:
        steps.append(f"rename to {target.parent.name}")
        return real_rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", rename)
    place = Place(tmp_path, Disk())
    await place.port.connect()
    steps.clear()

    async def keep(memo: str) -> None:
        steps.append("remember")

    await place.port.start(_order(keep, job_order_id="OF-1"), place.clock.now())
    name = "line-pc-07_OF-1_261125T060000-000001_start.csv"
    assert steps == [f"fsync {name}", "fsync .pending", "remember", "rename to outbox", "fsync outbox", "fsync .pending"]


async def test_a_file_that_somebody_has_open_goes_later(tmp_path: Path) -> None:
    class Held(QuietDisk):
        held = True

        def rename(self, source: Path, target: Path) -> None:
            if self.held and source.name == "orders.csv":
                raise OSError(errno.ETXTBSY, os.strerror(errno.ETXTBSY), str(source))
            super().rename(source, target)

    disk = Held()
    place = Place(tmp_path, disk)
    await place.port.connect()
    place.put("orders.csv", GOOD)
    place.put("others.csv", GOOD.replace("OF-1", "OF-2"))
    assert len((await place.poll()).plans) == 2
    assert (place.names("inbox"), place.names("archive")) == (["orders.csv"], ["others.csv"])
    disk.held = False
    assert (await place.poll()).plans == [], "it was taken the first time"
    assert place.names("archive") == ["orders.csv", "others.csv"]


async def test_a_share_that_cannot_sync_folders_is_good_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync

    def fsync(handle: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    place = Place(tmp_path, Disk())
    await place.port.connect()
    place.put("orders.csv", GOOD)
    assert len((await place.poll()).plans) == 1
    assert place.names("archive") == ["orders.csv"]


async def test_hidden_folders_made_with_sudo_are_as_open_as_those_around_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[str, int, int]] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda path, user, group: given.append((Path(path).name, user, group)))
    place = Place(tmp_path, Disk())
    for folder in ("archive", "outbox"):
        (tmp_path / folder).chmod(0o2775)
    for _ in range(2):
        await place.port.connect()
    around = (tmp_path / "archive").stat()
    assert given == [(name, around.st_uid, around.st_gid) for name in (".taking", ".taken", ".pending")]
    assert {oct((tmp_path / name).stat().st_mode & 0o7777) for name in ("archive/.taking", "archive/.taken", "outbox/.pending")} == {
        "0o2775"
    }


async def test_connecting_leaves_nothing_behind(place: Place) -> None:
    for folder in ("inbox", "archive", "error", "outbox"):
        assert place.names(folder) == []
        assert [path.name for path in (place.folder / folder).rglob("*probe*")] == []


def _order(keep: Callable[[str], Any], memo: str | None = None, job_order_id: str = "OF-1/20 é") -> ErpOrder:
    return ErpOrder("OF-1", job_order_id, "press-07", memo, keep, note='{"product_id": "ART-1"}')


async def test_a_confirmation_is_named_by_gateway_order_and_number(place: Place) -> None:
    async def keep(memo: str) -> None:
        assert place.names("outbox") == [], "nothing is in sight before it is remembered"

    assert (await place.port.start(_order(keep), place.clock.now())).standing is Standing.BOOKED
    assert place.names("outbox") == ["line-pc-07_OF-1=2F20=20=C3=A9_261125T060000-000001_start.csv"]
    assert "line-pc-07/OF-1/20 é/261125T060000-000001;" in (place.folder / "outbox" / place.names("outbox")[0]).read_text()


@pytest.mark.parametrize("other", ["OF-1_2", "OF-1_261125T060000", "OF-1_", "OF-1-2"])
async def test_a_confirmation_that_is_owed_outlives_what_another_order_writes(place: Place, other: str) -> None:
    kept: list[str] = []

    async def keep(memo: str) -> None:
        kept.append(memo)

    async def interrupted(memo: str) -> None:
        kept.append(memo)
        raise UplinkError("the share is away")

    with pytest.raises(UplinkError):
        await place.port.start(_order(interrupted, job_order_id=other), place.clock.now())
    owed = kept[-1]
    again = Place(place.folder)
    await again.port.start(_order(keep, job_order_id="OF-1"), place.clock.now())
    await again.port.start(_order(keep, owed, job_order_id=other), place.clock.now())
    assert len(again.names("outbox")) == 2


async def test_a_lost_journal_uses_no_name_twice(place: Place) -> None:
    """Numbers begin at 1 again, and an import that knows the names would pass them over."""

    async def keep(memo: str) -> None: ...

    await place.port.start(_order(keep), place.clock.now())
    again = Place(place.folder)
    again.clock.advance(7200)
    await again.port.start(_order(keep), again.clock.now())
    assert len(place.names("outbox")) == 2


async def test_names_of_endless_orders_fit_and_differ(place: Place) -> None:
    async def keep(memo: str) -> None: ...

    for tail in ("a", "b"):
        await place.port.start(_order(keep, job_order_id="é" * 120 + tail), place.clock.now())
    names = place.names("outbox")
    assert len(set(names)) == 2
    assert max(len(name) for name in names) < 200


async def test_a_character_that_the_encoding_lacks_blocks_this_order_only(tmp_path: Path) -> None:
    place = Place(tmp_path, csv={"encoding": "windows-1252"})
    await place.port.connect()

    async def keep(memo: str) -> None: ...

    outcome = await place.port.start(_order(keep, job_order_id="OF-漢"), place.clock.now())
    assert outcome.standing is Standing.BLOCKED
    assert "漢" in outcome.words
    assert (await place.port.start(_order(keep, job_order_id="OF-É"), place.clock.now())).standing is Standing.BOOKED


async def test_a_caller_that_gives_up_while_it_is_remembered_doubles_nothing(place: Place) -> None:
    on_its_way, on_disk = asyncio.Event(), asyncio.Event()
    memos: list[str] = []

    async def slow(memo: str) -> None:
        on_its_way.set()
        await on_disk.wait()
        memos.append(memo)

    task = asyncio.create_task(place.port.start(_order(slow), place.clock.now()))
    await on_its_way.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    on_disk.set()
    # The caller's own copy of the memo is the one from before.
    assert (await place.port.start(_order(slow), place.clock.now())).standing is Standing.BOOKED
    assert len(memos) == 1
    assert len(place.names("outbox")) == 1

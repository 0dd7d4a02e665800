"""Whether the sections of a configuration fit together: every name that one gives of another must exist there."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.config.counting import IdealTagSettings
from gateway.config.draft import Draft, tags_of
from gateway.config.problems import nearest
from gateway.config.settings import BitsState, CodesState, MachineryState, PackMLState, WorkUnitSettings
from gateway.config.uplink_references import check_uplinks
from gateway.config.yaml_tree import Path
from gateway.domain.equipment import STATE_NAMES


def tag_references(unit: WorkUnitSettings) -> Iterator[tuple[Path, str]]:
    """Every tag that a work unit names, with its place below the unit."""
    state = unit.state
    if isinstance(state, BitsState):
        for name in ("running", "setup", "starved", "blocked", "planned"):
            signal = getattr(state, name)
            if signal is not None:
                yield ("state", name), signal.tag
    if isinstance(state, CodesState):
        yield ("state", "tag"), state.tag
    if isinstance(state, BitsState | CodesState) and state.fault is not None:
        if state.fault.tag is not None:
            yield ("state", "fault"), state.fault.tag
        for index, bit in enumerate(state.fault.bits):
            yield ("state", "fault", "bits", index), bit.tag
    if isinstance(state, PackMLState | MachineryState):
        yield ("state", "state"), state.state
        if state.mode is not None:
            yield ("state", "mode"), state.mode
    if isinstance(state, PackMLState):
        for name in ("machine_state", "execute_state"):
            if getattr(state, name) is not None:
                yield ("state", name), getattr(state, name)
    for name, counter in unit.counts.counters().items():
        yield ("counts", name), counter.tag
    for product, tag in unit.counts.by_product().items():
        yield ("counts", "total", product), tag
    if isinstance(unit.ideal_cycle_time, IdealTagSettings):
        yield ("ideal_cycle_time", "tag"), unit.ideal_cycle_time.tag
    if unit.product is not None:
        yield ("product", "tag"), unit.product.tag
    if unit.product_lot is not None:
        yield ("product_lot", "tag"), unit.product_lot.tag
    if unit.job is not None:
        yield ("job", "tag"), unit.job.tag
    for index, material in enumerate(unit.materials):
        yield ("materials", index, "tag"), material.tag
    for index, characteristic in enumerate(unit.quality):
        yield ("quality", index, "tag"), characteristic.tag


def release_references(unit: WorkUnitSettings) -> Iterator[tuple[Path, str, bool]]:
    """Every tag of `release:` with its place below the unit, and whether it is written to."""
    if unit.release is not None:
        for name in ("quantity", "product", "job", "strobe", "accepted"):
            tag = getattr(unit.release, name)
            if tag is not None:
                yield ("release", name), tag, name != "accepted"
        for name, tag in unit.release.properties.items():
            yield ("release", "properties", name), tag, True


def split_reference(reference: str, device: str | None) -> tuple[str | None, str]:
    """`device/tag` or `tag` of the unit's own `device` -> (device, tag)."""
    named, slash, tag = reference.rpartition("/")
    return (named, tag) if slash else (device, tag)


def check_references(draft: Draft) -> None:
    """Tell in `draft.problems` whatever does not fit."""
    _check_lines(draft)
    for name, unit in draft.work_units.items():
        _check_unit(draft, ("work_units", name), unit)
    _check_reasons(draft)
    _check_products(draft)
    _check_work_centers(draft)
    _check_currency(draft)
    check_uplinks(draft)
    for name, calendar in draft.calendars.items():
        for contradiction in calendar.contradictions():
            draft.blame(("calendars", name, "shifts"), f"{contradiction}; correct the times", "calendar contradiction", value="")


def _check_lines(draft: Draft) -> None:
    lines: dict[str, tuple[str, str]] = {}
    for name, settings in draft.devices.items():
        if settings.shared_line is None:
            continue
        line, how = settings.shared_line
        other, known = lines.setdefault(line, (name, how))
        if how != known:
            text = f"`{other}` is on the same line {line} with {known}, here it is {how}; give both the same"
            draft.blame(("devices", name, "url"), text, "devices of one line share its connection")


def _check_unit(draft: Draft, path: Path, unit: WorkUnitSettings) -> None:
    devices = draft.names("devices")
    if not devices:
        # Told once, as the missing section that it is.
        return
    known_device = unit.device is None or unit.device in devices
    if not known_device:
        draft.blame_unknown((*path, "device"), "device", devices, "devices")
    for below, reference in tag_references(unit):
        _check_tag(draft, (*path, *below), reference, unit.device if known_device else "")
    for below, reference, written in release_references(unit):
        _check_tag(draft, (*path, *below), reference, unit.device if known_device else "")
        if written:
            _check_writable(draft, (*path, *below), *split_reference(reference, unit.device))
    if unit.calendar is not None and unit.calendar not in draft.names("calendars"):
        draft.blame_unknown((*path, "calendar"), "calendar", draft.names("calendars"), "calendars")
    if isinstance(unit.state, CodesState):
        words = [*STATE_NAMES, *draft.names("reasons")]
        for code, word in unit.state.codes.items():
            if word not in words:
                text = f"`{word}` is neither a state nor a reason of `reasons:`{nearest(word, words)}"
                draft.blame((*path, "state", "codes", code), text, f"states: {', '.join(STATE_NAMES)}")
    for index, material in enumerate(unit.materials):
        device, tag = split_reference(material.tag, unit.device)
        found = tags_of(draft.devices[device]).get(tag) if device in draft.devices else None
        if found is not None and found.unit is None:
            text = f"the tag `{tag}` has no unit; add `unit:` to it under devices.{device}.tags, for example KGM"
            draft.blame((*path, "materials", index, "tag"), text, "material.consumed carries the tag's unit")


def _check_tag(draft: Draft, path: Path, reference: str, own: str | None) -> None:
    device, tag = split_reference(reference, own)
    if device == "":
        return
    if device is None:
        draft.blame(
            path, "it is not said of which device; add `device:` to the work unit or write device/tag", "unqualified tag", value=reference
        )
    elif device not in draft.names("devices"):
        text = f"there is no device `{device}`{nearest(device, draft.names('devices'))}"
        draft.blame(path, text, "tag references are `tag` or `device/tag`", value=reference)
    else:
        tags = draft.tags(device)
        if tags is not None and tag not in tags:
            text = f"the device `{device}` has no tag `{tag}`{nearest(tag, tags)}"
            draft.blame(path, text, f"not a key of devices.{device}.tags", value=reference)


def _check_writable(draft: Draft, path: Path, device: str | None, tag: str) -> None:
    settings = draft.devices.get(device or "")
    if settings is None:
        return
    if settings.recorded:
        draft.blame(path, f"`{device}` is a recording and cannot be written; remove this key", "driver replay has no writes")
        return
    found = tags_of(settings).get(tag)
    if found is not None and not found.writable:
        text = f"the tag `{tag}` is not meant to be written; add `writable: true` to it under devices.{device}.tags"
        draft.blame(path, text, "only tags with writable: true are ever written")


def _check_reasons(draft: Draft) -> None:
    units = draft.names("work_units")
    for name in draft.names("reasons"):
        if name in STATE_NAMES:
            draft.blame(
                ("reasons", name), "a reason may not be called like a state; rename it", f"states: {', '.join(STATE_NAMES)}", value=""
            )
    taken: dict[tuple[str, str], str] = {}
    for name, reason in draft.reasons.items():
        for unit, codes in reason.faults.items():
            path = ("reasons", name, "faults", unit)
            if unit not in units:
                draft.blame(path, f"there is no work unit of this name{nearest(unit, units)}", "not a key of `work_units`")
            for index, code in enumerate(codes):
                other = taken.setdefault((unit, str(code)), name)
                if other != name:
                    text = f"fault {code} of {unit} already means `{other}`; keep it in one reason"
                    draft.blame((*path, index), text, "a fault code means one reason")


def _check_products(draft: Draft) -> None:
    units = draft.names("work_units")
    recipes: list[tuple[str, str | None, str]] = []
    for name, product in draft.products.items():
        per_unit: dict[str | None, int | str] = {}
        if isinstance(product.recipe, dict):
            per_unit.update(product.recipe)
        elif product.recipe is not None:
            per_unit[None] = product.recipe
        named = [("ideal_cycle_time", unit) for unit in product.ideal_cycle_time] + [("recipe", unit) for unit in per_unit if unit]
        for key, unit in named:
            if unit not in units:
                text = f"there is no work unit of this name{nearest(unit, units)}"
                draft.blame(("products", name, key, unit), text, "not a key of `work_units`")
        for at, recipe in per_unit.items():
            other = next((o for o, where, code in recipes if code == str(recipe) and (None in (at, where) or where == at)), None)
            recipes.append((name, at, str(recipe)))
            if other is not None and other != name:
                path = ("products", name, "recipe") if at is None else ("products", name, "recipe", at)
                draft.blame(path, f"this recipe already means `{other}`; give each product its own", "a recipe means one product")
    known = draft.names("products")
    for unit_name, settings in draft.work_units.items():
        for product_id in settings.counts.by_product():
            if known and product_id not in known:
                text = f"there is no product of this name{nearest(product_id, known)}"
                draft.blame(("work_units", unit_name, "counts", "total", product_id), text, "not a key of `products`")


def _check_work_centers(draft: Draft) -> None:
    for name, center in draft.work_centers.items():
        members = [unit for unit, settings in draft.work_units.items() if settings.work_center == name]
        all_read = set(draft.work_units) == set(draft.names("work_units"))
        if not members and all_read:
            centers = {settings.work_center for settings in draft.work_units.values()}
            text = f"no work unit says `work_center: {name}`{nearest(name, centers)}"
            draft.blame(("work_centers", name), text, "a work centre without work units", value="")
        elif all_read:
            for field in ("kpi_from", "time_from", "ideal_from", "good_from", "scrap_from"):
                named = getattr(center, field)
                for unit in (named,) if isinstance(named, str) else named or ():
                    if unit not in members:
                        text = f"no work unit of this name is in `{name}`{nearest(unit, members)}"
                        draft.blame(("work_centers", name, field), text, f"not a key of `work_units` with work_center {name}")


def _check_currency(draft: Draft) -> None:
    """Lines, areas and the site add up what their machines lose."""
    told = [(name, unit.cost.currency) for name, unit in draft.work_units.items() if unit.cost is not None]
    for name, currency in told[1:]:
        first, usual = told[0]
        if currency != usual:
            text = f"`{first}` has {usual}, and a site has one currency; convert to {usual}"
            draft.blame(("work_units", name, "cost", "currency"), text, "money of several machines is added up")

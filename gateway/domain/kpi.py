"""The figures of a window, declared: time elements, quantities' ratios and losses, each with its formula, unit and source.

`TIMES` and `KPIS` are what `docs/metrology.md` prints and what `kpi_line` computes: one table, so that a page, a message and a report
can never explain a figure differently from how it was made.

Sources: ISO 22400-2 as cited by OPC 40001-1 annex C (https://reference.opcfoundation.org/specs/OPC-40001-1/c-2) and by the public design
pattern of its elements (https://github.com/hsu-aut/IndustrialStandard-ODP-ISO22400-2); NF E60-182 for tT tO tR tF tN tU, TRS, TRG, TRE.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from gateway.domain.equipment import FAILURE_CLASSES, Cost, WorkUnit
from gateway.domain.instants import SECOND, moment, timestamp
from gateway.domain.oee import Category, Window

Number = float | None
Line = Mapping[str, Any]
"""The fields of one window as messages, page and reports carry them."""


@dataclass(frozen=True)
class Figures:
    """A window and the unit whose rules it was booked by; durations in microseconds, `ideal` those of the ideal time."""

    window: Window
    unit: WorkUnit

    def spent(self, category: Category) -> int:
        return self.window.required[category]

    @property
    def planned(self) -> int:
        return sum(self.window.required.values())

    @property
    def execution(self) -> Number:
        """From the start of a job to its end, or as far as it has come; other windows are whole."""
        window = self.window
        if window.kind != "job":
            return window.total
        end = window.until if window.end is None else window.end
        return None if end is None else end - window.start

    @property
    def run(self) -> int:
        micro = self.spent(Category.MICRO) if self.unit.oee.micro_stop_bucket == "performance" else 0
        return self.spent(Category.RUN) + micro

    @property
    def net(self) -> Number:
        """sum(PRI * PQ); None when a piece had no ideal time."""
        return float(self.window.ideal_produced) if self.window.ideal_known else None

    @property
    def useful(self) -> Number:
        """sum(PRI * GQ)."""
        return float(self.window.ideal_good) if self.window.ideal_known else None

    @property
    def down(self) -> int:
        """Stopped time without an order; micro-stops only where they are no running time."""
        return self.window.idle - (self.window.idle_micro if self.unit.oee.micro_stop_bucket == "performance" else 0)

    @property
    def delay(self) -> int:
        """Stopped time with an order; micro-stops only where they are no running time."""
        micro = 0 if self.unit.oee.micro_stop_bucket == "performance" else self.spent(Category.MICRO)
        return self.spent(Category.STOP) + micro - self.down

    def failures(self) -> tuple[int, int]:
        """(microseconds, count) of stops whose reason is a failure; an unmapped fault is one."""
        duration = count = 0
        for row, (lasted, times) in self.window.reasons.items():
            category, reason, _ = row.split("|")
            known = self.unit.reasons.get(reason)
            if category == Category.STOP and reason and (known is None or known.reason_class in FAILURE_CLASSES):
                duration, count = duration + lasted, count + times
        return duration, count


@dataclass(frozen=True)
class TimeElement:
    """One row of the time model. `key`: its field in a KPI line, in seconds."""

    key: str
    iso: str
    nf: str
    meaning: str
    of: Callable[[Figures], Number]


@dataclass(frozen=True)
class Kpi:
    """One ratio or rate, computed from a line's times and quantities, so that it is the same of a machine and of a sum of machines.

    `unit`: 1 for a ratio, s, 1/h. None where its denominator is 0 or something it needs is not known.
    """

    key: str
    name: str
    formula: str
    unit: str
    source: str
    of: Callable[[Line], Number]


TIMES: tuple[TimeElement, ...] = (
    TimeElement("total_s", "", "tT", "the whole window, as far as anybody looked", lambda f: f.window.total),
    TimeElement(
        "execution_s", "AOET", "", "of a job from its start to its end, interrupted time inside; of other windows tT", lambda f: f.execution
    ),
    TimeElement("opening_s", "POT", "tO", "total less no shift and closed days", lambda f: f.window.opening),
    TimeElement(
        "maintenance_s", "APMT", "", "opening time in planned maintenance, by the calendar or the machine's own mode",
        lambda f: f.window.maintenance,
    ),
    TimeElement(
        "planned_s", "PBT", "tR", "opening less breaks, maintenance and planned stops; all below is part of it", lambda f: f.planned
    ),
    TimeElement(
        "run_s", "APT", "tF", "running, slow cycles inside; micro-stops inside unless micro_stop_bucket is availability", lambda f: f.run
    ),
    TimeElement("setup_s", "AUST", "", "set-up", lambda f: f.spent(Category.SETUP)),
    TimeElement("stop_s", "ADET + ADOT", "", "stops: explained, or longer than the threshold", lambda f: f.spent(Category.STOP)),
    TimeElement("delay_s", "ADET", "", "stopped with an order", lambda f: f.delay),
    TimeElement("down_s", "ADOT", "", "stopped without an order", lambda f: f.down),
    TimeElement("unknown_s", "", "", "nobody knows: the link to the machine was lost", lambda f: f.spent(Category.UNKNOWN)),
    TimeElement("micro_stop_s", "", "", "unexplained standstills up to the threshold", lambda f: f.spent(Category.MICRO)),
    TimeElement("slow_s", "", "", "what slow cycles took beyond their ideal time; part of running time", lambda f: f.window.slow),
    TimeElement("failure_s", "", "", "stops whose reason is a failure of the machine; part of ADET and ADOT", lambda f: f.failures()[0]),
    TimeElement("busy_s", "AUBT", "", "APT + AUST + ADET", lambda f: f.run + f.spent(Category.SETUP) + f.delay),
    TimeElement("net_s", "PRI * PQ", "tN", "pieces made, each at its ideal time", lambda f: f.net),
    TimeElement("useful_s", "PRI * GQ", "tU", "good pieces, each at its ideal time", lambda f: f.useful),
)  # fmt: skip
"""The time model of one window, outermost first."""


def _ratio(part: str, *whole: str) -> Callable[[Line], Number]:
    """One field over the sum of others."""
    return lambda line: _divide(line[part], _sum(line[name] for name in whole))


def _divide(part: Any, whole: Any) -> Number:
    return None if part is None or not whole else float(part) / float(whole)


def _sum(values: Iterable[Any]) -> Any:
    total: Any = 0
    for value in values:
        if value is None:
            return None
        total += value
    return total


def _quality(line: Line) -> Number:
    return _divide(line["good"], line["produced"]) if line["net_s"] is None else _divide(line["useful_s"], line["net_s"])


def _nee(line: Line) -> Number:
    processing = _divide(line["run_s"] + line["setup_s"], line["planned_s"])
    effectiveness, quality = _divide(line["net_s"], line["run_s"]), _quality(line)
    return None if processing is None or effectiveness is None or quality is None else processing * effectiveness * quality


def _allocation(line: Line) -> Number:
    return _divide(line["busy_s"], line["execution_s"]) if line["window"]["kind"] == "job" else None


def _throughput(line: Line) -> Number:
    rate = _divide(line["produced"], line["execution_s"])
    return None if rate is None else 3600 * rate


KPIS: tuple[Kpi, ...] = (
    Kpi("availability", "availability, Do", "APT / PBT = tF / tR", "1", "ISO 22400-2; NF E60-182", _ratio("run_s", "planned_s")),
    Kpi(
        "effectiveness", "effectiveness, Tp", "sum(PRI * PQ) / APT = tN / tF; may exceed 1", "1", "ISO 22400-2; NF E60-182",
        _ratio("net_s", "run_s"),
    ),
    Kpi(
        "quality_ratio", "quality ratio, Tq", "sum(PRI * GQ) / sum(PRI * PQ) = tU / tN; GQ / PQ without an ideal time", "1",
        "NF E60-182; ISO 22400-2 for one product", _quality,
    ),
    Kpi("oee", "OEE index", "sum(PRI * GQ) / PBT = A * E * QR", "1", "ISO 22400-2", _ratio("useful_s", "planned_s")),
    Kpi("trs", "TRS", "tU / tR", "1", "NF E60-182", _ratio("useful_s", "planned_s")),
    Kpi("trg", "TRG", "tU / tO", "1", "NF E60-182", _ratio("useful_s", "opening_s")),
    Kpi("tre", "TRE (TEEP)", "tU / tT", "1", "NF E60-182", _ratio("useful_s", "total_s")),
    Kpi("nee", "net equipment effectiveness", "(APT + AUST) / PBT * E * QR", "1", "ISO 22400-2", _nee),
    Kpi("utilisation", "utilisation efficiency", "APT / AUBT", "1", "ISO 22400-2", _ratio("run_s", "busy_s")),
    Kpi("technical_efficiency", "technical efficiency", "APT / (APT + ADET)", "1", "ISO 22400-2", _ratio("run_s", "run_s", "delay_s")),
    Kpi("allocation_ratio", "allocation ratio", "AUBT / AOET, of a job: its whole execution time", "1", "ISO 22400-2", _allocation),
    Kpi("setup_ratio", "setup ratio", "AUST / (APT + AUST)", "1", "ISO 22400-2", _ratio("setup_s", "run_s", "setup_s")),
    Kpi("throughput_per_h", "throughput rate", "PQ / AOET; of other windows than a job's PQ / tT", "1/h", "ISO 22400-2", _throughput),
    Kpi("scrap_ratio", "scrap ratio", "SQ / PQ", "1", "ISO 22400-2", _ratio("scrap", "produced")),
    Kpi(
        "mtbf_s", "mean operating time between failures", "APT / number of failures", "s", "ISO 22400-2 after IEC 60050-191",
        _ratio("run_s", "failure_count"),
    ),
    Kpi(
        "mttr_s", "mean time to restoration", "time of failures / number of failures", "s", "ISO 22400-2 after IEC 60050-191",
        _ratio("failure_s", "failure_count"),
    ),
)  # fmt: skip
"""Every KPI of a window."""

LOSSES: tuple[tuple[str, str, str], ...] = (
    ("own", "availability", "stops of the machine itself, with an order"),
    ("induced", "availability", "stops that come from elsewhere: starved, blocked, reasons of class induced, with an order"),
    ("no_order", "availability", "stopped without an order"),
    ("setup", "availability", "set-up"),
    ("unknown", "availability", "time that nobody knows"),
    ("micro_stops", "performance", "unexplained standstills up to the threshold"),
    ("slow", "performance", "slow cycles"),
    ("residual", "performance", "the rest of running time: losses under the slow tolerance; negative when the pace beat the ideal"),
    ("scrap", "quality", "scrapped pieces at their ideal time"),
    ("rework", "quality", "pieces to rework at their ideal time"),
)  # fmt: skip
"""Name, kind and meaning of each loss; together they are exactly tR - tU."""


def losses(f: Figures) -> dict[str, float] | None:
    """Seconds of each of `LOSSES`; None where a piece had no ideal time, so that nobody knows tU."""
    window = f.window
    if f.net is None or f.useful is None:
        return None
    rework, no_order = float(window.ideal_rework), window.idle - window.idle_micro
    lost = {
        "own": f.spent(Category.STOP) - no_order - window.induced, "induced": window.induced, "no_order": no_order,
        "setup": f.spent(Category.SETUP), "unknown": f.spent(Category.UNKNOWN),
        "micro_stops": f.spent(Category.MICRO), "slow": window.slow, "residual": f.spent(Category.RUN) - window.slow - f.net,
        "scrap": f.net - f.useful - rework, "rework": rework,
    }  # fmt: skip
    return {name: value / SECOND for name, value in lost.items()}


def loss_cost(f: Figures) -> Number:
    """Money lost: tR - tU at the price of an hour; None without a price or an ideal time."""
    cost, useful = f.unit.cost, f.useful
    if cost is None or useful is None:
        return None
    return round(float(cost.per_hour) * (f.planned - useful) / SECOND / 3600, 4)


def scrap_costs(cost: Cost | None, scrap: Decimal, material: Number, *, priced: bool) -> dict[str, Number]:
    """What scrapped pieces cost by themselves, on top of their time: the sum of each piece's own cost and of their materials.

    `material`: what these cost, None where they have no price (not `priced`) or nobody knows. A part without a price is None and adds
    nothing; the sum is None where there is no price at all, or where a part that has one is not known.
    """
    piece = None if cost is None or cost.per_piece is None else float(scrap * cost.per_piece)
    parts = ([] if piece is None else [piece]) + ([material] if priced else [])
    total = _sum(parts) if parts else None
    return {"scrap_cost": _money(total), "scrap_piece_cost": _money(piece), "scrap_material_cost": _money(material)}


def has_priced_materials(unit: WorkUnit) -> bool:
    """Whether its scrap costs material too."""
    return unit.cost is not None and bool(unit.cost.materials)


def _material_cost(f: Figures) -> Number:
    """What the materials of the scrapped pieces cost; None where they have no price, or that of one piece is not known."""
    return None if not has_priced_materials(f.unit) or f.window.scrap_unpriced else float(f.window.scrap_material)


def _money(amount: Number) -> Number:
    return None if amount is None else round(amount, 4)


def kpi_line(window: Window, unit: WorkUnit) -> dict[str, Any]:
    """The fields of one window: times in seconds, quantities, ratios, losses. Performance above 1 is published uncapped with
    `over_ideal`."""
    f = Figures(window, unit)
    line = _with_ratios(
        {
            "work_unit": unit.name,
            "window": {
                "kind": window.kind, "name": window.name, "from": timestamp(moment(window.start)),
                "to": None if window.end is None else timestamp(moment(window.end)),
            },
            "revision": window.revision, "closed": window.closed,
            **{element.key: _seconds(element.of(f)) for element in TIMES},
            "stop_count": window.stop_count, "micro_stop_count": window.micro_count, "failure_count": f.failures()[1],
            "produced": window.produced, "good": window.good, "scrap": window.scrap, "rework": window.rework, "late": window.late,
            "without_order": window.without_order,
            "cycle": window.cycles.line(), "losses": losses(f), "loss_cost": loss_cost(f),
            **scrap_costs(unit.cost, window.scrap, _material_cost(f), priced=has_priced_materials(unit)),
        }
    )  # fmt: skip
    if window.kind in ("hour", "shift") and window.end is not None and window.total > window.end - window.start:
        line["degraded"] = True  # the clock was set back into it
    return line


def changes(before: Line, after: Line) -> dict[str, list[Any]]:
    """Field -> [old, new] of every number that a revision of a window changed; `losses.own` is one of its losses."""
    old, new = _numbers(before), _numbers(after)
    return {name: [old.get(name), new.get(name)] for name in {**new, **old} if name != "revision" and old.get(name) != new.get(name)}


def _numbers(line: Line) -> dict[str, Any]:
    found = {name: value for name, value in line.items() if value is None or isinstance(value, int | float | Decimal)}
    for group in ("losses", "cycle"):
        found |= {f"{group}.{name}": value for name, value in (line[group] or {}).items()}
    return found


def _with_ratios(line: dict[str, Any]) -> dict[str, Any]:
    line |= {kpi.key: kpi.of(line) for kpi in KPIS}
    effectiveness = line["effectiveness"]
    line["over_ideal"] = effectiveness is not None and effectiveness > 1
    line["degraded"] = line["unknown_s"] > 0 or line["late"] > 0
    return line


QUANTITIES = ("produced", "good", "scrap", "rework", "late", "without_order")
COUNTS = ("stop_count", "micro_stop_count", "failure_count")
COSTS = ("loss_cost", "scrap_cost", "scrap_piece_cost", "scrap_material_cost")
SUMMED = (*(element.key for element in TIMES), *COUNTS, *QUANTITIES, *COSTS)
"""Fields of a line that add up over machines; the others are computed from the sums."""


def roll_up(lines: Sequence[Line], **head: Any) -> dict[str, Any]:
    """The line of several machines together: times, quantities and losses summed, ratios from the sums, never averaged.

    What one of them does not know (None) the sum does not know either; cycle times of several machines have no distribution. `head`: the
    fields that say whose line it is. Money is summed as it stands: a site has one currency.
    """
    total: dict[str, Any] = dict(head) | {name: _sum(line[name] for line in lines) for name in SUMMED}
    total["cycle"] = lines[0]["cycle"] if len(lines) == 1 else None
    parts = [line["losses"] for line in lines]
    known = [part for part in parts if part is not None]
    total["losses"] = {name: sum(part[name] for part in known) for name, _, _ in LOSSES} if len(known) == len(parts) else None
    return _with_ratios(total)


def combine(
    *,
    time: Line,
    ideal: Line,
    good: Line,
    scrap: Sequence[Line],
    cost: Cost | None,
    priced: bool,
    usual_s: Decimal | None = None,
    **head: Any,
) -> dict[str, Any]:
    """The line of a production line that is judged by one machine's times and another's pieces.

    `time`: whose times count; `ideal`: whose ideal time per piece; `good`: where the good pieces are counted; `scrap`: all machines that
    scrap. A piece that is scrapped anywhere was produced. `priced`: whether any of these has prices of materials. `usual_s`: the ideal
    time per piece where that machine made none in this window.
    """
    scrapped = sum((line["scrap"] for line in scrap), Decimal(0))
    produced = good["good"] + good["rework"] + scrapped
    per_piece = _divide(ideal["net_s"], ideal["produced"]) if ideal["produced"] else None if usual_s is None else float(usual_s)

    def worth(pieces: Decimal) -> Number:
        return 0.0 if not pieces else None if per_piece is None else per_piece * float(pieces)

    net, useful, rework = worth(produced), worth(good["good"]), worth(good["rework"])
    total = dict(head) | {name: time[name] for name in (*SUMMED, "cycle", "losses")}
    total |= {"net_s": net, "useful_s": useful, "produced": produced, "scrap": scrapped, "loss_cost": None}
    total |= scrap_costs(cost, scrapped, _sum(line["scrap_material_cost"] for line in scrap), priced=priced)
    total |= {name: good[name] for name in ("good", "rework", "late", "without_order")}
    known = time["losses"]
    if known is not None and net is not None and useful is not None and rework is not None:
        lost = {name: known[name] for name, kind, _ in LOSSES if kind != "quality" and name != "residual"}
        lost |= {"scrap": net - useful - rework, "rework": rework}
        lost["residual"] = total["planned_s"] - useful - sum(lost.values())
        total["losses"] = {name: lost[name] for name, _, _ in LOSSES}
    else:
        total["losses"] = None
    if cost is not None and useful is not None:
        total["loss_cost"] = round(float(cost.per_hour) * (total["planned_s"] - useful) / 3600, 4)
    return _with_ratios(total)


def _seconds(microseconds: Number) -> Number:
    return None if microseconds is None else microseconds / SECOND

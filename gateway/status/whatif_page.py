"""What the what-if page shows: each order before and after, and what other orders of the queue would gain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.domain.promise import due_of
from gateway.domain.whatif import EXACT_UP_TO, Answer, Question, Queue, Slot
from gateway.status.basis_words import basis_words
from gateway.status.board import UnitStatus
from gateway.status.screens import Reader
from gateway.status.whatif_words import whatif_words

_SHOWN = 8
"""Orders of a sequence that are named; of a longer queue the first ones decide."""


@dataclass(frozen=True)
class _Row:
    job_order_id: str
    product: str
    due: str
    before: str
    before_late: str
    after: str
    after_late: str
    basis: str
    running: bool
    worse: bool


def whatif_context(unit: UnitStatus, queue: Queue, question: Question, answer: Answer, reader: Reader) -> Mapping[str, Any]:
    words, formats = whatif_words(reader.language), reader.formats
    before = {slot.order.job_order_id: slot for slot in answer.before.slots}
    worse = {slot.order.job_order_id for slot in answer.becomes_late}

    def end(slot: Slot) -> str:
        known = slot.promise.eta_likely
        return reader.words["no_rate"] if known is None else formats.when(known, reader.now)

    def late(slot: Slot) -> str:
        return words["late_by"].format(time=formats.duration(slot.late_s)) if slot.late_s else ""

    rows = []
    for slot in answer.after.slots:
        name, present = slot.order.job_order_id, before[slot.order.job_order_id]
        rows.append(
            _Row(
                name, slot.order.product_id or "", formats.when(due_of(slot.order), reader.now), end(present), late(present), end(slot),
                late(slot), basis_words(slot.promise.basis, reader.language), name not in queue.waiting_ids, name in worse,
            )
        )  # fmt: skip
    plans = [
        {
            "name": words[f"rule.{plan.rule}"], "jobs": [slot.order.job_order_id for slot in plan.slots[:_SHOWN]],
            "more": max(len(plan.slots) - _SHOWN, 0), "late_count": plan.late_count, "best": plan is answer.best,
            "late": formats.duration(plan.late_s) if plan.late_s else "0",
            "gain": formats.duration(answer.base.late_s - plan.late_s) if plan.late_s < answer.base.late_s else "–",
        }
        for plan in (answer.base, *answer.others)
    ]  # fmt: skip
    return {
        "unit": unit, "w": reader.words, "q": words, "f": formats, "lang": reader.language, "now": reader.now, "rows": rows,
        "asked": not question.empty, "title": _title(question, words), "plans": plans,
        "becomes_late": [slot.order.job_order_id for slot in answer.becomes_late],
        "no_exact": "" if answer.others[-1].rule == "least_late" else words["no_exact"].format(n=EXACT_UP_TO),
    }  # fmt: skip


def _title(question: Question, words: Mapping[str, str]) -> str:
    parts = [] if question.first is None else [words["first"].format(job=question.first)]
    parts += [words["priority"].format(job=job, n=n) for job, n in (question.priorities or {}).items()]
    parts += [] if question.calendar is None else [words["calendar"]]
    return " ".join(parts) or words["present"]

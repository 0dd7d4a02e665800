"""The ERP's side of the exchange, to start from: gives the orders of a file, books each event once.

python server.py --port 8070 --token demo --orders orders.jsonl --books books.db
"""

import argparse
import hmac
import json
import sqlite3
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

TABLES = """CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, batch BLOB, answer TEXT);
CREATE TABLE IF NOT EXISTS events (id TEXT PRIMARY KEY, body TEXT);
CREATE TABLE IF NOT EXISTS produced (job_order_id TEXT PRIMARY KEY, good REAL, scrap REAL);"""


def book(books: sqlite3.Connection, event: dict) -> None:
    """What this ERP does with an event that is new to it, here: keep each order's totals. A ValueError refuses the event for good."""
    if event["type"] == "lineside.job.progress.v1":
        books.execute("INSERT OR REPLACE INTO produced VALUES (?, ?, ?)", (event["subject"], event["data"]["good"], event["data"]["scrap"]))


def take(books: sqlite3.Connection, key: str, batch: bytes) -> tuple[int, dict]:
    """Status and answer to a batch; the same again when it comes again."""
    if known := books.execute("SELECT answer FROM answers WHERE key = ? AND batch = ?", (key, batch)).fetchone():
        return 200, json.loads(known[0])
    events, rejected = json.loads(batch)["events"], []
    for event in events:
        try:
            if books.execute("INSERT OR IGNORE INTO events VALUES (?, ?)", (event["id"], json.dumps(event))).rowcount:
                book(books, event)
        except ValueError as error:
            rejected.append({"id": event["id"], "reason": str(error)})
    if rejected:
        books.rollback()  # nothing of a refused batch is booked; its other events come again
        return 422, {"rejected": rejected}
    answer = {"acknowledged": events[-1]["sequence"], "epoch": events[-1]["epoch"]}
    books.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", (key, batch, json.dumps(answer)))
    return 200, answer


class Exchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # one connection for many requests

    def do_GET(self) -> None:
        lines = Path(args.orders).read_text().split("\n")[:-1]  # a line that is still being written is no order yet
        after = int(parse_qs(urlsplit(self.path).query).get("after", ["0"])[0])
        self.answer(200, {"commands": [json.loads(line) for line in lines[after:]], "cursor": str(len(lines))})

    def do_POST(self) -> None:
        batch = self.rfile.read(int(self.headers["Content-Length"]))
        if self.is_known():
            with closing(sqlite3.connect(args.books, timeout=30, isolation_level=None)) as books, books:
                books.execute("BEGIN IMMEDIATE")
                status, answer = take(books, self.headers["Idempotency-Key"], batch)
            self.answer(status, answer)  # only now: events, bookings and answer are on disk, all or none
        else:
            self.answer(401, {})

    def is_known(self) -> bool:
        return hmac.compare_digest(self.headers.get("Authorization", ""), f"Bearer {args.token}")

    def answer(self, status: int, body: dict) -> None:
        payload = json.dumps(body if self.is_known() else {}).encode()
        self.send_response(status if self.is_known() else 401)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for option in ("--port", "--token", "--orders", "--books"):
        parser.add_argument(option, required=True)
    args = parser.parse_args()
    with closing(sqlite3.connect(args.books)) as books:
        books.executescript(TABLES)
    ThreadingHTTPServer(("127.0.0.1", int(args.port)), Exchange).serve_forever()

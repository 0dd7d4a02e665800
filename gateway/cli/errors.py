"""What every command says when it cannot do its work."""

from __future__ import annotations


class CommandError(Exception):
    """One sentence for the technician, one for the expert; `main` prints both and exits with `status`."""

    def __init__(self, sentence: str, expert: str = "", *, status: int = 2) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.expert = expert
        self.status = status

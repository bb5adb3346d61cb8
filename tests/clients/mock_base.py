"""What the three mock vendors share: what they answer, and how it is framed."""

import json
from dataclasses import dataclass, field

TEXT = "Hello, wörld 😀! Fine."


def sse(value, event=None):
    """One server-sent event."""
    data = json.dumps(value, ensure_ascii=False)
    return ((f"event: {event}\n" if event else "") + f"data: {data}\n\n").encode()


@dataclass
class Refusal(Exception):
    """The vendor says no."""

    status: int
    body: dict


@dataclass
class Reply:
    """An answer, whole or as a stream of frames."""

    status: int = 200
    headers: dict = field(default_factory=dict)
    body: bytes = b""
    frames: list = None
    cut: bool = False
    linger: bool = False

    @classmethod
    def json(cls, value, status=200, headers=None):
        body = json.dumps(value, ensure_ascii=False).encode()
        return cls(status, {"content-type": "application/json", **(headers or {})}, body)

    @classmethod
    def events(cls, frames, cut=False, linger=False):
        return cls(200, {"content-type": "text/event-stream; charset=utf-8"}, b"", frames, cut, linger)


@dataclass
class Call:
    """A tool call."""

    id: str
    name: str
    args: dict

    def pieces(self):
        text = json.dumps(self.args)
        return [text[start : start + 5] for start in range(0, len(text), 5)]


@dataclass
class Turn:
    """What the model says next."""

    text: str = None
    thought: str = None
    calls: list = field(default_factory=list)
    stop: str = "end"
    midstream: str = None
    linger: bool = False

    def pieces(self):
        text = self.text or ""
        return [text[start : start + 6] for start in range(0, len(text), 6)]


def turn_for(model, answers_a_tool, prefix):
    """The turn that a model's name stands for; a model that got its tool's result speaks."""
    linger = "linger" in model
    think = "I think, therefore." if "think" in model else None
    if answers_a_tool:
        return Turn(text="It is 21 degrees.", thought=think, linger=linger)
    calls = []
    if "tool" in model:
        calls = [Call(f"{prefix}1", "get_weather", {"city": "Paris", "days": 2})]
    if "parallel" in model:
        calls = [Call(f"{prefix}{number}", "get_weather", {"city": city}) for number, city in ((1, "Paris"), (2, "Rome"))]
    if calls:
        return Turn(text=None, thought=think, calls=calls, stop="tool", linger=linger)
    if "json" in model:
        return Turn(text='{"city": "Paris", "temperature": 21}')
    for stop in ("length", "stopseq", "filter"):
        if stop in model:
            return Turn(text=TEXT, stop=stop)
    for trouble in ("error", "cut"):
        if f"mid-{trouble}" in model:
            return Turn(text=TEXT, midstream=trouble)
    return Turn(text=TEXT, thought=think, linger=linger)

"""The team as a LangGraph graph: listen → (second opinion) → decide → speak; it changes nothing.

A run has no checkpointer and returns its reply; whoever runs it commits the reply's state once it is spoken, so that
a run can be thrown away when the person goes on talking.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict, cast

from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from callfleet_worker.agents import phrases
from callfleet_worker.agents.flow import CallPlan, plan_reply, question_named
from callfleet_worker.agents.interpret import interpret, taken, wants_opinion
from callfleet_worker.agents.state import CallState, Line, Reply, Understanding
from callfleet_worker.llm.acknowledgement import word_acknowledgement
from callfleet_worker.llm.opinion import AsksModel, second_opinion

ACK_DEADLINE_S = 0.4
FILLER_AFTER_S = 0.7
MAX_LATE_ACKS = 2

TurnKind = Literal["start", "heard", "silence", "timeUp"]


class TurnState(TypedDict, total=False):
    """What flows through the graph for one turn."""

    kind: TurnKind
    heard: str
    call: CallState
    meant: Understanding
    reply: Reply


@dataclass
class AckBudget:
    """Stops asking for worded acknowledgements in a call once two in a row came too late."""

    late: int = 0

    @property
    def open(self) -> bool:
        """Whether the model may still be asked."""
        return self.late < MAX_LATE_ACKS


@dataclass
class Team:
    """One call's agents. `prepare` renders a text's speech beforehand and says whether it is ready to be spoken."""

    plan: CallPlan
    model: AsksModel | None
    prepare: Callable[[str], Awaitable[bool]]
    ack_deadline_s: float = ACK_DEADLINE_S
    acks: AckBudget = field(default_factory=AckBudget)

    def __post_init__(self) -> None:
        self._graph = build_graph(self)

    async def run(self, kind: TurnKind, call: CallState, heard: str = "") -> AsyncIterator[Line | Turned]:
        """Yields the reply's lines as they are ready, then one Turned with what was meant and the state to commit."""
        final: TurnState = {}
        turn: TurnState = {"kind": kind, "call": call, "heard": heard}
        async for mode, chunk in self._graph.astream(turn, stream_mode=["custom", "values"]):
            part = cast("dict[str, Any]", chunk)  # a pair of mode and chunk, for stream_mode is a list
            if mode == "custom":
                yield cast("Line", part["line"])
            else:
                final = cast("TurnState", part)
        yield Turned(final["meant"], final["reply"])


@dataclass(frozen=True)
class Turned:
    """The end of a run: what the person meant and the reply whose state is to be committed."""

    meant: Understanding
    reply: Reply


def build_graph(team: Team) -> CompiledStateGraph[TurnState, None, TurnState, TurnState]:
    """The compiled graph; its nodes are the functions below."""
    nodes = _Nodes(team)
    graph = StateGraph(TurnState)
    graph.add_node("listen", nodes.listen)
    graph.add_node("second_opinion", nodes.second_opinion)
    graph.add_node("decide", nodes.decide)
    graph.add_node("speak", nodes.speak)
    graph.add_edge(START, "listen")
    graph.add_conditional_edges("listen", nodes.route, ["second_opinion", "decide"])
    graph.add_edge("second_opinion", "decide")
    graph.add_edge("decide", "speak")
    graph.add_edge("speak", END)
    return graph.compile()


class _Nodes:
    def __init__(self, team: Team) -> None:
        self._team = team
        self._plan = team.plan

    async def listen(self, state: TurnState) -> TurnState:
        """What the grammars make of the turn."""
        if state["kind"] != "heard":
            return {"meant": Understanding(kind=state["kind"])}
        question = question_named(self._plan.script, state["call"].pending)
        return {"meant": interpret(question, state["call"], state["heard"], self._plan.today)}

    def route(self, state: TurnState) -> str:
        """To the model only where the grammars abstained and it can help."""
        question = question_named(self._plan.script, state["call"].pending)
        asks = self._team.model is not None and wants_opinion(question, state["meant"], state["heard"])
        return "second_opinion" if asks else "decide"

    async def second_opinion(self, state: TurnState) -> TurnState:
        """The model's reading, with a filler when it takes a while."""
        question = question_named(self._plan.script, state["call"].pending)
        if question is None or self._team.model is None:
            return {}
        asking = asyncio.ensure_future(second_opinion(self._team.model, question, state["heard"], self._plan.today))
        try:
            done, _ = await asyncio.wait({asking}, timeout=FILLER_AFTER_S)
            if not done:
                _say(Line(text=phrases.FILLER, kind="filler", agent="qualifier"))
            answer = await asking
        finally:
            asking.cancel()
        if answer is None:
            return {}
        return {"meant": Understanding(kind="answer", question=question.name, answer=taken(answer, "llm"))}

    async def decide(self, state: TurnState) -> TurnState:
        """The state machine's reply."""
        return {"reply": plan_reply(self._plan, state["call"], state["meant"])}

    async def speak(self, state: TurnState) -> TurnState:
        """Streams the reply clause by clause; an acknowledgement may be worded by the model in time."""
        reply = state["reply"]
        lines = [await self._worded(line, state) if line.kind == "ack" else line for line in reply.lines]
        for line in lines:
            _say(line)
        return {"reply": reply.model_copy(update={"lines": lines})}

    async def _worded(self, line: Line, state: TurnState) -> Line:
        question = question_named(self._plan.script, state["call"].pending)
        if self._team.model is None or question is None or not self._team.acks.open:
            return line
        text = await self._in_time(self._team.model, self._plan.book.ask(question), state["heard"])
        self._team.acks.late = 0 if text else self._team.acks.late + 1
        return line if text is None else line.model_copy(update={"text": text})

    async def _in_time(self, model: AsksModel, asked: str, heard: str) -> str | None:
        """Worded, guarded and already spoken within the deadline, or nothing."""
        deadline_s = self._team.ack_deadline_s
        try:
            async with asyncio.timeout(deadline_s):
                text = await word_acknowledgement(model, asked, heard, deadline_s=deadline_s)
                return text if text and await self._team.prepare(text) else None
        except TimeoutError:
            return None


def _say(line: Line) -> None:
    writer: Callable[[Any], None] = get_stream_writer()
    writer({"line": line})

"""Asking about many things at once, and again about those whose answers were not good enough.

In every round all open questions are asked, and only then are the answers judged, in the order of the questions: what
is accepted depends on the answers alone, not on who was quicker, so that a run that was stopped and goes on from its
store ends as one that never was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from vidssl.concepts.llm_answers import clean_text
from vidssl.concepts.llm_instructions import Instruction
from vidssl.concepts.llm_request import Answer, Backend, Message, NoAnswer, Request, Task
from vidssl.concepts.llm_store import AnswerStore
from vidssl.concepts.prompts import Sampling

Progress = Callable[[int, int], None]
MAX_FAULTS = 6  # that a model is told of at once


@dataclass
class Conversation:
    """What is said about one subject until its answer is good.

    Attributes:
        subject: such as the name of a concept.
        task, count: what is wanted, and how many.
        instruction, fields: the words of the question.
        review: takes an answer and says what is wrong with it; nothing wrong means that it has been accepted.
        attempts: answers judged so far.
        faults: of the last answer, or why there was none; empty once accepted.
        answer: the last one.
    """

    subject: str
    task: Task
    count: int
    instruction: Instruction
    fields: dict[str, str]
    review: Callable[[Answer], list[str]]
    attempts: int = 0
    faults: list[str] = field(default_factory=list)
    answer: Answer | None = None
    messages: tuple[Message, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.messages = self.instruction.messages(self.fields)

    def request(self, backend: Backend, sampling: Sampling) -> Request:
        """The question as it stands."""
        return Request(
            self.subject, self.task, self.count, backend.model, backend.revision, self.messages, sampling
        )

    def judge(self, answer: Answer) -> bool:
        """Whether the answer is good; if not, what is wrong with it becomes the next thing to say."""
        self.attempts += 1
        self.answer = answer
        self.faults = self.review(answer) if answer.text.strip() else ["it is empty"]
        if self.faults:
            # Chat templates want the roles to alternate, and an empty turn would be dropped.
            said = Message("assistant", answer.text.strip() or "(nothing)")
            reply = self.instruction.reply(self.fields, "; ".join(self.faults[:MAX_FAULTS]))
            self.messages = (*self.messages, said, reply)
        return not self.faults


@dataclass
class Counts:
    """Questions that a back-end was asked, of these answered, and answers that the store had already."""

    asked: int = 0
    answered: int = 0
    stored: int = 0


def hold_rounds(
    conversations: Sequence[Conversation],
    backend: Backend,
    store: AnswerStore,
    *,
    sampling: Sampling,
    attempts: int,
    progress: Progress | None = None,
) -> Counts:
    """Lead every conversation to a good answer or to its last attempt.

    Args:
        conversations: changed in place; `faults` of those that failed say why.
        backend: asked only what the store does not hold.
        store: open; every answer goes into it before anything else happens.
        sampling: of all requests.
        attempts: answers that may be judged for one conversation.
        progress: called with the number of requests dealt with and of all known so far.

    Raises:
        VidsslError: what the back-end or the store raise; all answers up to then are in the store.
    """
    counts = Counts()
    done, total = 0, len(conversations)
    open_ = list(conversations)
    for _ in range(attempts):
        requests = [conversation.request(backend, sampling) for conversation in open_]
        missing = {request.key: request for request in requests if store.get(request.key) is None}
        failed: dict[str, str] = {}
        counts.stored += len(requests) - len(missing)
        counts.asked += len(missing)
        done += len(requests) - len(missing)
        if progress is not None:
            progress(done, total)
        # Asked even when nothing is missing: a back-end that writes the open requests to a file has to know.
        for request, outcome in backend.answer(list(missing.values())):
            if isinstance(outcome, NoAnswer):
                failed[request.key] = outcome.reason
            else:
                store.add(request, Answer(clean_text(outcome.text), outcome.finish))
                counts.answered += 1
            done += 1
            if progress is not None:
                progress(done, total)
        open_ = [
            c for c, request in zip(open_, requests, strict=True) if not _settled(c, request, store, failed)
        ]
        if not open_:
            break
        total += len(open_)
    return counts


def _settled(
    conversation: Conversation, request: Request, store: AnswerStore, failed: dict[str, str]
) -> bool:
    answer = store.get(request.key)
    if answer is not None:
        return conversation.judge(answer)
    conversation.faults = [failed.get(request.key, "the back-end did not come back to it")]
    return True

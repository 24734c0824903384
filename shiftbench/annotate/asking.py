"""Sends questions to an OpenAI-compatible endpoint, with limited concurrency and retries, and stores all answers."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, ClassVar, TypeVar

from shiftbench.annotate.questions import Messages
from shiftbench.errors import InputError
from shiftbench.readers.numbers import check_number, check_whole
from shiftbench.store.explanation import Unit, content_key
from shiftbench.store.store import Store

Out = TypeVar("Out")
METHOD = "answer of a chat model"
LONGEST = 4000  # the most characters of an answer that are used and stored; the rest is cut off
GO_ON = "all answers so far are stored: the same command goes on from there"
HTTP_LOGS = ("httpx", "httpx2")  # loggers whose messages contain the endpoint's address


@dataclass(frozen=True)
class Endpoint:
    """The address and the key of an endpoint. This package stores and logs neither; repr leaves both out."""

    url: str = field(repr=False)
    key: str = field(repr=False)


def endpoint(option: str) -> Endpoint:
    """The endpoint that environment variables name.

    SHIFTBENCH_ANNOTATOR_URL and SHIFTBENCH_ANNOTATOR_KEY are used where the first is set, and OPENAI_BASE_URL and
    OPENAI_API_KEY where it is not. An empty variable counts as not set. A missing key becomes "none". option: the
    configuration option that needs the endpoint, for the message. Raises InputError where neither address is set: there
    is no default address to which words would be sent.
    """
    for url, key in (("SHIFTBENCH_ANNOTATOR_URL", "SHIFTBENCH_ANNOTATOR_KEY"), ("OPENAI_BASE_URL", "OPENAI_API_KEY")):
        if os.environ.get(url):
            return Endpoint(os.environ[url], os.environ.get(key) or "none")
    raise InputError(
        f"{option}=openai: no endpoint is named; set SHIFTBENCH_ANNOTATOR_URL (such as http://localhost:8000/v1) and, "
        "where it wants one, SHIFTBENCH_ANNOTATOR_KEY in the environment"
    )


@dataclass
class Budget:
    """A limit on the questions that a run sends. Questions that the store answers, and retries, do not count.

    limit: the most questions. option: the configuration option whose budget it is, for the message. spent: the number
    of questions sent so far.
    """

    limit: int
    option: str
    spent: int = 0

    def spend(self) -> None:
        """Count one more question. Raises InputError, and counts nothing, where `spent` has reached `limit`."""
        if self.spent >= self.limit:
            raise InputError(f"{self.option}.budget={self.limit} questions have been sent; {GO_ON} with a new budget")
        self.spent += 1


@dataclass(frozen=True)
class AnswerSettings:
    """The settings that an answer depends on, besides the question and its seed.

    model: the chat model's name at the endpoint. temperature, max_tokens: parameters of the request; None leaves the
    parameter out. prompt_version: the version of the questions' wording. The fields' names are part of the store's
    keys, so renaming a field loses the stored answers.
    """

    model: str
    temperature: float | None
    max_tokens: int | None
    prompt_version: int

    def content(self, messages: Messages, seed: int) -> dict[str, Any]:
        """The content that the store's key of an answer is the digest of: these settings, the question and its seed.

        The name and the version of this method of asking are part of it too. messages: the question, as the chat
        messages that are sent.
        """
        return {"method": METHOD, "version": 1, **vars(self), "messages": messages, "seed": seed}

    def options(self) -> Mapping[str, Any]:
        """The parameters model, temperature and max_tokens of the request, by name, without those that are None."""
        chosen = {"model": self.model, "temperature": self.temperature, "max_tokens": self.max_tokens}
        return {name: value for name, value in chosen.items() if value is not None}


class Session:
    """A connection to one endpoint, for use within one event loop.

    settings: what the answers depend on. store: where answers are read and written. budget: limits the questions that
    are sent. concurrency: the most questions that are open at the same time. retries: how often the client repeats a
    request after failures that it knows (such as 429, 5xx and time-outs; it respects Retry-After), and also how often
    this class asks anew where the reply is no chat completion; each new try of this class has the client's retries
    again. timeout: seconds until the whole reply to one request must be there. option: the configuration option that
    needs the endpoint, for messages.
    """

    def __init__(
        self, settings: AnswerSettings, store: Store, budget: Budget, concurrency: int, retries: int, timeout: float,
        option: str,
    ) -> None:  # fmt: skip
        from openai import AsyncOpenAI

        from shiftbench.annotate.client import LimitedClient

        for name in HTTP_LOGS:
            logging.getLogger(name).setLevel(logging.WARNING)
        self._endpoint, self._settings, self._store, self._budget = endpoint(option), settings, store, budget
        self._name = f"{option}=openai"
        self._slots, self._retries = asyncio.Semaphore(concurrency), retries
        self._failure: Exception | None = None
        self._client = AsyncOpenAI(
            base_url=self._endpoint.url,
            api_key=self._endpoint.key,
            max_retries=retries,
            timeout=timeout,
            http_client=LimitedClient(timeout),
        )

    async def close(self) -> None:
        await self._client.close()

    async def answer(self, messages: Messages, seed: int) -> str:
        """The answer to a question: the stored one where there is one, or a new one by the endpoint.

        messages: the question, as chat messages. seed: the seed that the request names. A new answer is stored at once.
        Raises InputError where the endpoint gives no answer, the budget is spent or the store cannot be written. After
        any failure this session begins no further question: a question that is not in the store raises an earlier
        failure again.
        """
        content = self._settings.content(messages, seed)
        key = content_key(content)
        unit = self._store.get(key)
        if unit is not None:
            return unit.words["answer"][0]
        async with self._slots:
            if self._failure is not None:
                raise self._failure
            try:
                self._store.check_writable()
                self._budget.spend()
                text = await self._completion(messages, seed)
                self._store.put(key, Unit({}, {"answer": [text]}), content)
            except Exception as error:  # a full disk too: no new question is sent whose answer could not be stored
                self._failure = error
                raise
        return text

    async def _completion(self, messages: Messages, seed: int) -> str:
        import openai

        from shiftbench.annotate.client import UnreadReply

        for attempt in range(self._retries + 1):
            try:
                options: dict[str, Any] = {"messages": messages, "seed": seed, **self._settings.options()}
                return _text(await self._client.chat.completions.create(**options))
            except openai.APIStatusError as error:
                raise InputError(f"{self._name}: {self._why(error.status_code, error.message)}; {GO_ON}") from None
            except openai.APITimeoutError:
                raise InputError(f"{self._name}: the endpoint did not answer in time; {GO_ON}") from None
            except UnreadReply as error:
                raise InputError(f"{self._name}: {error}; {GO_ON}") from None
            except openai.APIConnectionError as error:
                # Some versions of openai's client wrap every error of the HTTP client in this one.
                unread = isinstance(error.__cause__, UnreadReply)
                why = str(error.__cause__) if unread else "the endpoint cannot be reached"
                raise InputError(f"{self._name}: {why}; {GO_ON}") from None
            except Exception:  # replies that the client cannot parse raise many types: RecursionError, TypeError, ...
                await asyncio.sleep(min(0.5 * 2**attempt, 8.0))
        raise InputError(
            f"{self._name}: the endpoint's replies are no chat completions; is its address right (it often ends in "
            f"/v1)? {GO_ON}"
        )

    def _why(self, status: int, message: str) -> str:
        """What failed, in words: the endpoint refuses the key (status 401 or 403), or it fails; with the status.

        In the second case the first 200 characters of the server's message follow. The endpoint's address and key are
        replaced in them, because a server may repeat what it was sent.
        """
        if status in (401, 403):
            return f"the endpoint refuses the key (status {status})"
        for secret in (self._endpoint.key, self._endpoint.url):
            message = message.replace(secret, "***")
        return f"the endpoint fails with status {status} ({' '.join(message.split())[:200]})"


@dataclass
class Asker:
    """The base class of what asks a chat model (ChatAnnotator, Judge), with the options of both.

    model: the chat model's name at the endpoint; None where none is set. seeds: each concept or response is read once
    for each seed, with one question or several. temperature, max_tokens: parameters of each request; None leaves them
    to the endpoint. concurrency: the most questions that are open at the same time. retries: as in `Session`. timeout:
    seconds until the whole reply must be there. budget: the most questions that one run may send. store: the folder of
    explanations, in which every answer is stored; None: the user's default (Store). option: the name of the
    configuration option that selects the class, for messages. wording: the version of the questions' texts, part of
    every key. left: the budget, which counts the questions sent. Raises InputError where `seeds` is empty or repeats a
    seed, or a number is too small.
    """

    model: str | None
    seeds: Sequence[int]
    temperature: float | None
    max_tokens: int | None
    concurrency: int
    retries: int
    timeout: float
    budget: int
    store: str | None
    option: ClassVar[str]
    wording: ClassVar[int]
    left: Budget = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise InputError(f"{self.option}.seeds={list(self.seeds)} must name at least one seed, each once")
        for seed in self.seeds:
            check_whole(f"{self.option}.seeds: seed", seed, None)
        for name, least in (("concurrency", 1), ("retries", 0), ("budget", 0)):
            check_whole(f"{self.option}.{name}", getattr(self, name), least)
        check_whole(f"{self.option}.max_tokens", self.max_tokens, 1, null="the endpoint's default")
        check_number(f"{self.option}.temperature", self.temperature, null="the endpoint's default")
        check_number(f"{self.option}.timeout", self.timeout)
        if not self.timeout > 0:
            raise InputError(f"{self.option}.timeout={self.timeout} must be more than 0 seconds")
        self.left = Budget(self.budget, self.option)

    def answer_settings(self) -> AnswerSettings:
        """The settings that every answer depends on, from these options; they are part of every answer's key."""
        return AnswerSettings(str(self.model), self.temperature, self.max_tokens, self.wording)

    def session(self) -> Session:
        """A session for one round of questions; `gather_answers` closes it."""
        return Session(
            self.answer_settings(),
            Store(self.store),
            self.left,
            self.concurrency,
            self.retries,
            self.timeout,
            self.option,
        )


def check_client(option: str, model: str | None) -> None:
    """Raise InputError where the package openai, the chat model's name or an endpoint is missing. Sends no question.

    option: the configuration option that needs them, for the message. model: the name; None or empty where none is set.
    """
    if find_spec("openai") is None:
        raise InputError(f"{option}=openai needs the package openai: pip install 'shiftbench[openai]'")
    if not model:
        raise InputError(f"{option}=openai: no model is named; set SHIFTBENCH_ANNOTATOR_MODEL or {option}.model=NAME")
    endpoint(option)


async def answers(session: Session, wanted: Sequence[tuple[Messages, int]]) -> list[str]:
    """The answers to questions, each with its seed, in the order of `wanted`.

    The questions are asked concurrently. Closes the session, and raises the first failure after all questions have
    ended, as `gather_answers` does.
    """
    return await gather_answers(session, [session.answer(messages, seed) for messages, seed in wanted])


async def gather_answers(session: Session, coroutines: Sequence[Coroutine[Any, Any, Out]]) -> list[Out]:
    """The results of the coroutines, which run concurrently, in the order of `coroutines`. Closes the session.

    Where one of them fails, the first failure in that order is raised, but only when all coroutines have ended: so the
    answers to questions that were already sent are stored.
    """
    try:
        found = await asyncio.gather(*coroutines, return_exceptions=True)
    finally:
        await session.close()
    failures = [item for item in found if isinstance(item, BaseException)]
    if failures:
        raise failures[0]
    return [item for item in found if not isinstance(item, BaseException)]


def run_coroutine(coroutine: Coroutine[Any, Any, Out]) -> Out:
    """Run a coroutine to its end and return its result.

    Where this thread already runs an event loop, as in a notebook, the coroutine runs in a new thread.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def _text(completion: Any) -> str:
    """The text of a reply, cut to LONGEST characters; empty where the model gave no text.

    Characters that UTF-8 cannot encode become "?". Raises ValueError where the reply is no chat completion.
    """
    try:
        text = completion.choices[0].message.content
    except (AttributeError, IndexError, TypeError, KeyError):
        raise ValueError("no chat completion") from None
    if text is not None and not isinstance(text, str):
        raise ValueError("no chat completion")
    return (text or "")[:LONGEST].encode("utf-8", "replace").decode("utf-8")

"""Questions to an OpenAI-compatible endpoint: limited concurrency, retries, and a store of all answers."""

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
from shiftbench.store.explanation import Unit, content_key
from shiftbench.store.store import Store

Out = TypeVar("Out")
METHOD = "answer of a chat model"
LONGEST = 4000  # characters of an answer that are stored
GO_ON = "all answers so far are stored: the same command goes on from there"
HTTP_LOGS = ("httpx", "httpx2")  # loggers whose messages contain the endpoint's address


@dataclass(frozen=True)
class Endpoint:
    """Address and key of an endpoint. Neither is ever stored, logged or shown."""

    url: str = field(repr=False)
    key: str = field(repr=False)


def endpoint(option: str) -> Endpoint:
    """The endpoint that the environment names: SHIFTBENCH_ANNOTATOR_URL with its key, else OPENAI_BASE_URL with its
    key.

    option: the configuration option that chose the endpoint, for the message. Raises InputError where the environment
    names no endpoint: there is no default address to which words would be sent.
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

    option: the configuration option, for the message. spent: questions sent so far.
    """

    limit: int
    option: str
    spent: int = 0

    def spend(self) -> None:
        """Count one more question. Raises InputError where the limit is reached."""
        if self.spent >= self.limit:
            raise InputError(f"{self.option}.budget={self.limit} questions have been sent; {GO_ON} with a new budget")
        self.spent += 1


@dataclass(frozen=True)
class AnswerSettings:
    """What an answer depends on besides the question and its seed.

    temperature, max_tokens: None leaves the parameter out of the request. prompt_version: version of the questions'
    wording. The fields' names are part of the store's keys.
    """

    model: str
    temperature: float | None
    max_tokens: int | None
    prompt_version: int

    def content(self, messages: Messages, seed: int) -> dict[str, Any]:
        """What the store's key of an answer is computed from."""
        return {"method": METHOD, "version": 1, **vars(self), "messages": messages, "seed": seed}

    def options(self) -> Mapping[str, Any]:
        """The parameters of the request."""
        chosen = {"model": self.model, "temperature": self.temperature, "max_tokens": self.max_tokens}
        return {name: value for name, value in chosen.items() if value is not None}


class Session:
    """A connection to one endpoint, for use within one event loop.

    concurrency: questions that are sent at the same time. retries: of one question. The client retries after failures
    that it knows (429, 5xx, time-outs; it respects Retry-After); this class retries where the reply is no chat
    completion. timeout: seconds until the whole reply to one request must be there.
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
        """The answer from the store, else from the endpoint; a new answer is stored at once.

        Raises InputError where the endpoint gives no answer or the budget is spent. After a failure this session sends
        no further question.
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
            except Exception as error:  # also a full disk: an answer that cannot be stored must not be paid for
                self._failure = error
                raise
        return text

    async def _completion(self, messages: Messages, seed: int) -> str:
        import openai

        for attempt in range(self._retries + 1):
            try:
                options: dict[str, Any] = {"messages": messages, "seed": seed, **self._settings.options()}
                return _text(await self._client.chat.completions.create(**options))
            except openai.APIStatusError as error:
                raise InputError(f"{self._name}: {self._why(error.status_code, error.message)}; {GO_ON}") from None
            except openai.APITimeoutError:
                raise InputError(f"{self._name}: the endpoint did not answer in time; {GO_ON}") from None
            except openai.APIConnectionError:
                raise InputError(f"{self._name}: the endpoint cannot be reached; {GO_ON}") from None
            except Exception:  # replies that the client cannot parse raise many types: RecursionError, TypeError, ...
                await asyncio.sleep(min(0.5 * 2**attempt, 8.0))
        raise InputError(
            f"{self._name}: the endpoint's replies are no chat completions; is its address right (it often ends in "
            f"/v1)? {GO_ON}"
        )

    def _why(self, status: int, message: str) -> str:
        """A failure in words, without address and key: a server may repeat in its message what it was sent."""
        if status in (401, 403):
            return f"the endpoint refuses the key (status {status})"
        for secret in (self._endpoint.key, self._endpoint.url):
            message = message.replace(secret, "***")
        return f"the endpoint fails with status {status} ({' '.join(message.split())[:200]})"


@dataclass
class Asker:
    """Base of what asks a chat model: its options. Each thing is asked about once for each seed.

    model: its name at the endpoint. seeds: one reading of each thing for each seed. temperature, max_tokens: of each
    answer; None leaves them to the endpoint. concurrency: questions that are sent at the same time. retries: of a
    question. timeout: seconds until the whole reply must be there. budget: questions that one run may send. store:
    folder of explanations, in which every answer is stored. option: name of the configuration option that selects the
    class, for messages. wording: version of the questions' texts, part of every key.
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
        for name, least in (("concurrency", 1), ("retries", 0), ("budget", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{self.option}.{name}={getattr(self, name)} must be at least {least}")
        if not self.timeout > 0:
            raise InputError(f"{self.option}.timeout={self.timeout} must be more than 0 seconds")
        self.left = Budget(self.budget, self.option)

    def answer_settings(self) -> AnswerSettings:
        """What every answer depends on."""
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
    """Raises InputError where the package openai, a model's name or an endpoint is missing. Sends no question."""
    if find_spec("openai") is None:
        raise InputError(f"{option}=openai needs the package openai: pip install 'shiftbench[openai]'")
    if not model:
        raise InputError(f"{option}=openai: no model is named; set SHIFTBENCH_ANNOTATOR_MODEL or {option}.model=NAME")
    endpoint(option)


async def answers(session: Session, wanted: Sequence[tuple[Messages, int]]) -> list[str]:
    """The answer to each (question, seed), in their order."""
    return await gather_answers(session, [session.answer(messages, seed) for messages, seed in wanted])


async def gather_answers(session: Session, coroutines: Sequence[Coroutine[Any, Any, Out]]) -> list[Out]:
    """Results of the coroutines, in order. Closes the session.

    A failure is raised after the questions that were already sent have been answered and stored.
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
    """Run a coroutine and return its result; in a new thread where an event loop already runs, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def _text(completion: Any) -> str:
    """The answer's text, empty where the model gave none. Raises ValueError where the reply is no chat completion."""
    try:
        text = completion.choices[0].message.content
    except (AttributeError, IndexError, TypeError, KeyError):
        raise ValueError("no chat completion") from None
    if text is not None and not isinstance(text, str):
        raise ValueError("no chat completion")
    return (text or "")[:LONGEST].encode("utf-8", "replace").decode("utf-8")

"""Questions to an OpenAI-compatible endpoint: few at once, asked again where it fails, every answer kept."""

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
LONGEST = 4000  # characters of an answer that are kept
GO_ON = "what was answered is kept: the same command goes on from there"
HTTP_LOGS = ("httpx", "httpx2")  # their lines name the address


@dataclass(frozen=True)
class Endpoint:
    """Where to ask. Neither part is ever written or shown."""

    url: str = field(repr=False)
    key: str = field(repr=False)


def endpoint(option: str) -> Endpoint:
    """The endpoint that the environment names; an address and its key go together. option: what the user chose it by.

    Raises InputError where none is named: words are sent to no address that nobody chose.
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
    """Questions that may still be sent. Those that the store answers, and repetitions after a failure, are free."""

    limit: int
    option: str
    spent: int = 0

    def spend(self) -> None:
        """One more. Raises InputError where none is left."""
        if self.spent >= self.limit:
            raise InputError(f"{self.option}.budget={self.limit} questions are asked; {GO_ON} with a new budget")
        self.spent += 1


@dataclass(frozen=True)
class Asked:
    """What an answer depends on, besides the question and its seed. temperature, max_tokens: None leaves it out."""

    model: str
    temperature: float | None
    max_tokens: int | None
    prompt_version: int

    def content(self, messages: Messages, seed: int) -> dict[str, Any]:
        """All that an answer is stored under."""
        return {"method": METHOD, "version": 1, **vars(self), "messages": messages, "seed": seed}

    def options(self) -> Mapping[str, Any]:
        """The parameters of the request."""
        chosen = {"model": self.model, "temperature": self.temperature, "max_tokens": self.max_tokens}
        return {name: value for name, value in chosen.items() if value is not None}


class Asking:
    """Asks one endpoint within one event loop.

    concurrency: questions on their way at once. retries: of one question, by the client where it knows the failure
    (429, 5xx, time-outs; it heeds Retry-After), here where what came is no chat completion. timeout: seconds until the
    whole reply to one request is there.
    """

    def __init__(
        self, asked: Asked, store: Store, budget: Budget, concurrency: int, retries: int, timeout: float,
        option: str,
    ) -> None:  # fmt: skip
        from openai import AsyncOpenAI

        from shiftbench.annotate.client import LimitedClient

        for name in HTTP_LOGS:
            logging.getLogger(name).setLevel(logging.WARNING)
        self._endpoint, self._asked, self._store, self._budget = endpoint(option), asked, store, budget
        self._called = f"{option}=openai"
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
        """The answer from the store, or the endpoint's, which is stored at once.

        Raises InputError where the endpoint gives none or the budget is spent; no question is sent after that.
        """
        content = self._asked.content(messages, seed)
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
            except Exception as error:  # a full disk too: an answer that cannot be kept is not worth its price
                self._failure = error
                raise
        return text

    async def _completion(self, messages: Messages, seed: int) -> str:
        import openai

        for attempt in range(self._retries + 1):
            try:
                options: dict[str, Any] = {"messages": messages, "seed": seed, **self._asked.options()}
                return _text(await self._client.chat.completions.create(**options))
            except openai.APIStatusError as error:
                raise InputError(f"{self._called}: {self._why(error.status_code, error.message)}; {GO_ON}") from None
            except openai.APITimeoutError:
                raise InputError(f"{self._called}: the endpoint does not answer in time; {GO_ON}") from None
            except openai.APIConnectionError:
                raise InputError(f"{self._called}: the endpoint cannot be reached; {GO_ON}") from None
            except (
                Exception
            ):  # the client stumbles over what it cannot parse in many ways: RecursionError, TypeError, ...
                await asyncio.sleep(min(0.5 * 2**attempt, 8.0))
        raise InputError(
            f"{self._called}: what the endpoint sends is no chat completion; is its address right (it often ends in "
            f"/v1)? {GO_ON}"
        )

    def _why(self, status: int, message: str) -> str:
        """A failure in words. A server may repeat what it was sent, so address and key are taken out."""
        if status in (401, 403):
            return f"the endpoint refuses the key (status {status})"
        for secret in (self._endpoint.key, self._endpoint.url):
            message = message.replace(secret, "***")
        return f"the endpoint fails with status {status} ({' '.join(message.split())[:200]})"


@dataclass
class Asker:
    """Whatever asks a chat model about something, several times over.

    model: as the endpoint calls it. seeds: as many readings of each thing. temperature, max_tokens: of each answer;
    None leaves the endpoint its own. concurrency: questions at once. retries: of a question. timeout: seconds until the
    whole reply is there.
    budget: questions that one run may ask. store: folder of explanations, where every answer is kept. option: what the
    user chose it by. wording: version of its questions, part of every key.
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

    def asked(self) -> Asked:
        """What every answer depends on."""
        return Asked(str(self.model), self.temperature, self.max_tokens, self.wording)

    def asking(self) -> Asking:
        """For one round of questions, which `gathered` ends."""
        return Asking(
            self.asked(), Store(self.store), self.left, self.concurrency, self.retries, self.timeout, self.option
        )


def check_client(option: str, model: str | None) -> None:
    """Refuse, by InputError, what can be refused before any question: no client, no model, no endpoint."""
    if find_spec("openai") is None:
        raise InputError(f"{option}=openai needs the package openai: pip install 'shiftbench[openai]'")
    if not model:
        raise InputError(f"{option}=openai: no model is named; set SHIFTBENCH_ANNOTATOR_MODEL or {option}.model=NAME")
    endpoint(option)


async def answers(asking: Asking, wanted: Sequence[tuple[Messages, int]]) -> list[str]:
    """The answer to each question with its seed, in their order."""
    return await gathered(asking, [asking.answer(messages, seed) for messages, seed in wanted])


async def gathered(asking: Asking, coroutines: Sequence[Coroutine[Any, Any, Out]]) -> list[Out]:
    """What they return; a failure is raised when what was on its way has arrived and is stored. Closes the asking."""
    try:
        found = await asyncio.gather(*coroutines, return_exceptions=True)
    finally:
        await asking.close()
    failures = [item for item in found if isinstance(item, BaseException)]
    if failures:
        raise failures[0]
    return [item for item in found if not isinstance(item, BaseException)]


def finished(coroutine: Coroutine[Any, Any, Out]) -> Out:
    """What a coroutine returns; in a thread of its own where a loop already runs, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def _text(completion: Any) -> str:
    """The answer's text, empty where the model gave none. Raises ValueError where this is no chat completion."""
    try:
        text = completion.choices[0].message.content
    except (AttributeError, IndexError, TypeError, KeyError):
        raise ValueError("no chat completion") from None
    if text is not None and not isinstance(text, str):
        raise ValueError("no chat completion")
    return (text or "")[:LONGEST].encode("utf-8", "replace").decode("utf-8")

"""``generate_until`` requests: from lm_eval's instances to texts, in request order."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from windrow.bad_requests import BadRequestsError
from windrow.generation import NOT_NUMBERS, Generated, Generator, Settings, random_keys, read_settings
from windrow.scoring import check_same_tokens, known_tokens
from windrow.sharding import is_first_host
from windrow.tokens import Segments, generation_prompts
from windrow.warning import warn


class TextRequests:
    """Validated generation requests.

    Args:
        arguments: Each request's ``(context, keywords)``.
        generator: The generator that will run them.
        max_length: The maximum number of tokens that the model can take.
        on_bad_request: ``"raise"``, or ``"skip"`` to skip invalid requests.

    Raises:
        ValueError: A request is invalid; the message names it.
    """

    def __init__(
        self,
        arguments: Sequence[tuple[Any, Any]],
        generator: Generator,
        max_length: int | None,
        on_bad_request: str,
    ) -> None:
        self.arguments, self._generator, self._on_bad_request = arguments, generator, on_bad_request
        settings, bad = _read_all([keywords for _, keywords in arguments], generator)
        _refuse(bad, on_bad_request)
        good = list(settings)
        prompts = generation_prompts(
            generator.tokenizer,
            [arguments[request][0] for request in good],
            max_new_tokens=[one.room for one in settings.values()],
            max_length=max_length,
            on_bad_request=on_bad_request,  # type: ignore[arg-type]
        )
        prompts = known_tokens(prompts, generator.vocabulary, on_bad_request)
        settled, bad = _settle(list(settings.values()), prompts, generator.model.max_length)
        _refuse(bad, on_bad_request)
        self._prompts = prompts.without(bad) if bad else prompts
        self._requests = [good[index] for index in self._prompts.requests]
        self._settings = [settled[index] for index in self._prompts.requests.tolist()]
        self.skipped = len(arguments) - len(self._requests)
        self.truncated = len(self._prompts.report.truncated)

    def run(self, finished: Callable[[int, str], None], known: Collection[int] = ()) -> int:
        """Generates the text of every valid request; returns for how many the model's logits were NaN.

        Args:
            finished: Called with each request's index and text as it finishes.
            known: Requests to skip because their results are known; the samples of the others do not change.

        Raises:
            BadRequestsError: For some requests, the model's logits were NaN; all others have finished.
        """
        check_same_tokens("JaxLM", self._prompts, self._generator.sharding)
        start, tokens = perf_counter(), 0
        left = np.flatnonzero(~np.isin(self._requests, list(known)))
        keys = random_keys(self._prompts, self._generator.seed)[left] if known else None
        with tqdm(
            total=len(left), desc="Running generate_until requests", disable=not is_first_host()
        ) as bar:

            def one_finished(prompt: int, generated: Generated) -> None:
                nonlocal tokens
                tokens += len(generated.tokens)
                bar.set_postfix_str(f"{tokens / (perf_counter() - start):,.0f} tok/s", refresh=False)
                bar.update()
                finished(self._requests[left[prompt]], generated.text)

            prompts = self._prompts.only(left) if known else self._prompts
            failed = self._generator.run(prompts, [self._settings[at] for at in left], one_finished, keys)
        _refuse({self._requests[left[prompt]]: NOT_NUMBERS for prompt in failed}, self._on_bad_request)
        if failed and is_first_host():
            warn(f"texts left empty: {len(failed)}; {NOT_NUMBERS}")
        return len(failed)


def _refuse(bad: dict[int, str], on_bad_request: str) -> None:
    if bad and on_bad_request != "skip":
        raise BadRequestsError(bad)


def _read_all(keywords: Sequence[Any], generator: Generator) -> tuple[dict[int, Settings], dict[int, str]]:
    """The settings of valid requests, and the problems of the others."""
    settings, bad = {}, {}
    for request, given in enumerate(keywords):
        try:
            settings[request] = read_settings(given, generator.defaults)
        except ValueError as error:
            bad[request] = str(error)
    return settings, bad


def _settle(
    asked: Sequence[Settings], prompts: Segments, most: int | None
) -> tuple[dict[int, Settings], dict[int, str]]:
    """The settings, adjusted to the prompts' lengths, and the problems of other requests, by request.

    Args:
        asked: The settings of all requests.
        prompts: The prompts of valid requests.
        most: The maximum number of tokens that the model can take; generation stops there.
    """
    settled, bad, cut = {}, {}, 0
    lengths = np.diff(prompts.offsets).tolist()
    for request, length in zip(prompts.requests.tolist(), lengths, strict=True):
        try:
            one = asked[request].after(length)
        except ValueError as error:
            bad[request] = str(error)
            continue
        if most is not None and length + one.max_new_tokens > most:
            one, cut = replace(one, max_new_tokens=most - length), cut + 1
        settled[request] = one
    if cut:
        warn(
            f"{cut} of the texts may exceed the model's maximum length of {most} tokens; generation stops "
            "there. Lower max_new_tokens in generation_config.json, or max_length in the requests"
        )
    return settled, bad

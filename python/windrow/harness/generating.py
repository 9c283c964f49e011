"""``generate_until`` requests: from lm_eval's instances to texts, and back in their order."""

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

from tqdm.auto import tqdm

from windrow.bad_requests import BadRequestsError
from windrow.generation import Generated, Generator, Settings, read_settings
from windrow.scoring import known_tokens
from windrow.sharding import is_first_host
from windrow.tokens import Segments, Tokenizer, generation_prompts


class TextRequests:
    """Requests whose keywords and prompts were found good, and those that were not.

    Args:
        arguments: Each request's ``(context, keywords)``.
        generator: What the texts will be made by.
        max_length: The most tokens that the model may see at once.
        on_bad_request: ``"raise"``, or ``"skip"`` to leave bad ones out.

    Raises:
        ValueError: Something is wrong with a request; the message names it.
    """

    def __init__(
        self,
        arguments: Sequence[tuple[Any, Any]],
        generator: Generator,
        max_length: int | None,
        on_bad_request: str,
    ) -> None:
        self.arguments, self._generator = arguments, generator
        settings, bad = _read_all([keywords for _, keywords in arguments], generator)
        if bad and on_bad_request != "skip":
            raise BadRequestsError(bad)
        good = list(settings)
        prompts = _prompts(
            generator.tokenizer,
            [arguments[request][0] for request in good],
            [settings[request].max_new_tokens for request in good],
            max_length,
            on_bad_request,
        )
        self._prompts = known_tokens(prompts, generator.vocabulary, on_bad_request)
        self._requests = [good[index] for index in self._prompts.requests]
        self._settings = [settings[request] for request in self._requests]
        self.skipped = len(arguments) - len(self._requests)
        self.truncated = len(self._prompts.report.truncated)

    def run(self, finished: Callable[[int, str], None]) -> None:
        """Generates every good request's text.

        Args:
            finished: Called with a request's index and its text as each finishes.
        """
        start, tokens = perf_counter(), 0
        with tqdm(
            total=len(self._requests), desc="Running generate_until requests", disable=not is_first_host()
        ) as bar:

            def one_finished(prompt: int, generated: Generated) -> None:
                nonlocal tokens
                tokens += len(generated.tokens)
                bar.set_postfix_str(f"{tokens / (perf_counter() - start):,.0f} tok/s", refresh=False)
                bar.update()
                finished(self._requests[prompt], generated.text)

            self._generator.run(self._prompts, self._settings, one_finished)


def _read_all(keywords: Sequence[Any], generator: Generator) -> tuple[dict[int, Settings], dict[int, str]]:
    """The settings of good requests, and what is wrong with the others."""
    settings, bad = {}, {}
    for request, given in enumerate(keywords):
        try:
            settings[request] = read_settings(given, generator.defaults)
        except ValueError as error:
            bad[request] = str(error)
    return settings, bad


def _prompts(
    tokenizer: Tokenizer,
    contexts: Sequence[Any],
    limits: Sequence[int],
    max_length: int | None,
    on_bad_request: Any,
) -> Segments:
    return generation_prompts(
        tokenizer, contexts, max_new_tokens=limits, max_length=max_length, on_bad_request=on_bad_request
    )

"""Generating without lm_eval: prompts in, texts out."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jax.sharding import Mesh, NamedSharding
from numpy.typing import NDArray

from windrow.admission import admit_requests
from windrow.generation.defaults import read_defaults
from windrow.generation.generator import Generated, Generator
from windrow.generation.rules import RULES, Rules
from windrow.generation.settings import DEFAULT_NEW_TOKENS, Settings
from windrow.generation.unfollowed import check_followed
from windrow.model import LanguageModel
from windrow.policy import BatchPolicy
from windrow.scoring import Clock, known_tokens
from windrow.sharding import RowSharding
from windrow.tokens import Tokenizer, generation_prompts, load_tokenizer


@dataclass(frozen=True)
class Generations:
    """What became of each prompt.

    Attributes:
        texts: ``n`` texts, cut at the stop strings; empty for skipped prompts.
        tokens: ``int32[m]``, the generated tokens, prompt after prompt; an end token
            and those of a stop string are among them.
        offsets: ``int64[n + 1]``, where each prompt's tokens begin.
        reasons: ``n`` of ``"stop"``, ``"end"``, ``"length"`` and ``"skipped"``: why each text ended.
        skipped: ``int64[k]``, the prompts that nothing could be generated from.
        report: What ran; see :meth:`windrow.generation.Generator.report`.
    """

    texts: list[str]
    tokens: NDArray[np.int32]
    offsets: NDArray[np.int64]
    reasons: tuple[str, ...]
    skipped: NDArray[np.int64]
    report: dict[str, Any]

    def __len__(self) -> int:
        """How many prompts there were."""
        return len(self.texts)

    def __iter__(self) -> Iterator[str]:
        """The texts."""
        return iter(self.texts)


def generate(
    model: LanguageModel,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    max_new_tokens: int | Sequence[int] = DEFAULT_NEW_TOKENS,
    stop: str | Sequence[str] = (),
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    end_tokens: Sequence[int] | None = None,
    rules: Rules | None = None,
    policy: BatchPolicy | None = None,
    sharding: NamedSharding | Mesh | None = None,
    on_bad_request: str = "raise",
    chunk_length: int | None = None,
    finished: Callable[[int, Generated], None] | None = None,
) -> Generations:
    """Goes on with each prompt, as ``generate_until`` of :class:`~windrow.JaxLM` does.

    A prompt's text does not depend on the other prompts, nor on how many slots or
    devices there are. Samples follow from the seed and the prompt; where a prompt
    is given several times, each time gets its own.

    Args:
        model: The model; with ``init_state`` and ``step`` nothing is computed twice.
        tokenizer: A :class:`windrow.tokens.Tokenizer`, or what :func:`windrow.tokens.load_tokenizer` takes.
        prompts: ``n`` strings; of a long one the last ``max_length - max_new_tokens`` tokens count.
        max_new_tokens: The most tokens of each text: one number for all, or ``n``.
        stop: Strings at the first of which a text ends; they are cut off. So is the tokenizer's EOS.
        temperature: What logits are divided by before sampling; 0 takes the most likely token.
        top_k: Sample from so many most likely tokens; 0 is no limit.
        top_p: Sample from the most likely tokens that have this probability together; 1 is no limit.
        seed: For sampling.
        end_tokens: Tokens that end a text; by default those of ``generation_config.json`` beside the
            tokenizer, else the tokenizer's EOS.
        rules: What is done to the logits before a token is chosen, such as a penalty on repetition;
            by default what ``generation_config.json`` says.
        policy: ``batch_size`` is the number of slots, ``tokens_per_batch`` the most tokens that all
            hold; ``"auto"``: as many slots as the devices have memory for.
        sharding: A sharding for ``[rows, length]``, or a mesh over all of whose axes
            rows are split. By default the mesh of ``jax.set_mesh``, that of the parameters,
            or all devices.
        on_bad_request: ``"raise"``, or ``"skip"`` to leave such prompts out.
        chunk_length: Where given, prompts are read in chunks of so many tokens.
        finished: Called with a prompt's index and its text as soon as it is known.

    Raises:
        TypeError: The prompts are one string or no sequence, or ``stop`` or ``end_tokens`` is no sequence.
        ValueError: A prompt is empty and there is no BOS, or nothing is left of it beside what is
            generated; or an argument is not what it must be. The message names it.

    >>> texts = generate(model, "path/to/model", ["The cow"], max_new_tokens=8).texts  # doctest: +SKIP
    """
    tokenizer = tokenizer if isinstance(tokenizer, Tokenizer) else load_tokenizer(tokenizer)
    if isinstance(prompts, str):
        raise TypeError("prompts must be a sequence of strings, not one string; give [prompt]")
    admit_requests("prompts", prompts)
    given: Any = max_new_tokens
    each = given if isinstance(given, Sequence | np.ndarray) else [given] * len(prompts)
    limits = [int(limit) if isinstance(limit, np.integer) else limit for limit in each]
    if len(limits) != len(prompts):
        raise ValueError(f"max_new_tokens has {len(limits)} numbers for {len(prompts)} prompts")
    stops = (stop,) if isinstance(stop, str) else _several("stop", "strings", stop)
    defaults = read_defaults(tokenizer.name, tokenizer.eos_token_id)
    if end_tokens is not None:
        defaults = replace(defaults, end_tokens=_several("end_tokens", "token ids", end_tokens))
    if rules is None:
        rules = defaults.rules
        check_followed({}, defaults.others, defaults.source, temperature > 0, ", ".join(RULES))
    settings = [Settings(limit, stops, temperature, top_k, top_p, rules) for limit in limits]
    segments = generation_prompts(
        tokenizer,
        prompts,
        max_new_tokens=limits,
        max_length=model.max_length,
        on_bad_request=on_bad_request,  # type: ignore[arg-type]
    )
    generator = Generator(
        model,
        tokenizer,
        RowSharding.over(sharding, model.params),
        Clock(),
        defaults,
        policy=policy,
        seed=seed,
        chunk_length=chunk_length,
    )
    segments = known_tokens(segments, generator.vocabulary, on_bad_request)
    results = [Generated("", (), "skipped")] * len(prompts)

    def one_finished(segment: int, generated: Generated) -> None:
        request = int(segments.requests[segment])
        results[request] = generated
        if finished is not None:
            finished(request, generated)

    generator.run(segments, [settings[request] for request in segments.requests], one_finished)
    counts = [len(result.tokens) for result in results]
    return Generations(
        [result.text for result in results],
        np.array([token for result in results for token in result.tokens], np.int32),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        tuple(result.reason for result in results),
        segments.skipped,
        generator.report(),
    )


def _several(name: str, kind: str, given: Any) -> tuple[Any, ...]:
    if isinstance(given, Iterable):
        return tuple(given)
    raise TypeError(f"{name} must be a sequence of {kind}, not {given!r}")

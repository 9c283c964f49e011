"""Generates texts from prompts without lm_eval."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jax.sharding import Mesh, NamedSharding
from numpy.typing import NDArray

from windrow.admission import admit_requests, admit_whole, is_whole, kind_of
from windrow.bad_requests import BadRequestsError
from windrow.generation.defaults import GenerationDefaults, read_defaults
from windrow.generation.endings import NOT_NUMBERS
from windrow.generation.generator import Generated, Generator
from windrow.generation.rules import RULES, Rules
from windrow.generation.settings import DEFAULT_NEW_TOKENS, Settings
from windrow.generation.unfollowed import check_followed
from windrow.model import LanguageModel, admit_model
from windrow.scoring import Clock, check_same_call, check_same_tokens, known_tokens
from windrow.sharding import RowSharding
from windrow.sizing.policy import BatchPolicy, admit_policy
from windrow.tokens import Tokenizer, generation_prompts, load_tokenizer


@dataclass(frozen=True)
class Generations:
    """The text generated for each prompt.

    Attributes:
        texts: ``n`` texts, truncated at stop strings; empty for skipped prompts.
        tokens: ``int32[m]``, the generated tokens, prompt by prompt, including end tokens and the tokens of
            stop strings.
        offsets: ``int64[n + 1]``, where the tokens for each prompt begin.
        reasons: Why each of the ``n`` texts ended: ``"stop"``, ``"end"``, ``"length"`` or ``"skipped"``.
        skipped: ``int64[k]``, the prompts that were skipped.
        report: A summary of the run; see :meth:`windrow.generation.Generator.report`.
    """

    texts: list[str]
    tokens: NDArray[np.int32]
    offsets: NDArray[np.int64]
    reasons: tuple[str, ...]
    skipped: NDArray[np.int64]
    report: dict[str, Any]

    def __len__(self) -> int:
        """The number of prompts."""
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
    """Continues each prompt, as ``generate_until`` of :class:`~windrow.JaxLM` does.

    The text for a prompt does not depend on the other prompts, or on the number of slots or devices. Samples
    depend on the seed and the prompt; a repeated prompt gets a different sample each time.

    Args:
        model: The model; without ``init_state`` and ``step``, each new token recomputes the whole text.
        tokenizer: Anything that :func:`windrow.tokens.load_tokenizer` takes.
        prompts: ``n`` strings; long ones are truncated to their last ``max_length - max_new_tokens`` tokens.
        max_new_tokens: The maximum number of tokens per text: one number for all prompts, or ``n`` numbers.
        stop: Strings that end a text, which is truncated before them. The tokenizer's EOS ends it too.
        temperature: Logits are divided by this before sampling; 0 means greedy decoding.
        top_k: Sample from the ``top_k`` most likely tokens; 0 means no limit.
        top_p: Sample from the smallest set of most likely tokens with this total probability; 1 means no
            limit.
        seed: The seed for sampling.
        end_tokens: Tokens that end a text; by default, those in ``generation_config.json`` next to the
            tokenizer, else the tokenizer's EOS.
        rules: Changes to the logits before a token is chosen, such as a repetition penalty; by default, those
            in ``generation_config.json`` next to the tokenizer.
        policy: ``batch_size`` is the number of slots, ``tokens_per_batch`` the maximum number of tokens in
            all slots together; ``"auto"``: as many slots as fit in device memory.
        sharding: A sharding for ``[rows, length]``, or a mesh; rows are then split over all of its axes.
            Default: the mesh of ``jax.set_mesh``, else the parameters' mesh, else all devices.
        on_bad_request: ``"raise"``, or ``"skip"`` to skip prompts that cannot be used, or for which the
            model's logits are NaN.
        chunk_length: The number of tokens per row that a prefill runs at a time; by default, chosen by cost.
        finished: Called with a prompt's index and result as soon as its text ends.

    Raises:
        TypeError: The prompts are a single string or not a sequence, or ``stop`` or ``end_tokens`` is not a
            sequence.
        ValueError: A prompt is empty and there is no BOS token, ``max_new_tokens`` leaves no room for a
            prompt, the model's logits are NaN for one, or an argument is invalid. The message names it. Or
            hosts were given different arguments.

    >>> texts = generate(model, "path/to/model", ["The cow"], max_new_tokens=8).texts  # doctest: +SKIP
    """
    admit_model(model)
    policy = admit_policy(policy)
    tokenizer = tokenizer if isinstance(tokenizer, Tokenizer) else load_tokenizer(tokenizer)
    if isinstance(prompts, str):
        raise TypeError("prompts must be a sequence of strings, not one string; give [prompt]")
    admit_requests("prompts", prompts)
    _admit_callback(finished)
    seed, limits = admit_whole("seed", seed, least=0), _limits(max_new_tokens, len(prompts))
    stops = (stop,) if isinstance(stop, str) else _several("stop", "strings", stop)
    defaults = _defaults(tokenizer, end_tokens)
    if rules is not None and not isinstance(rules, Rules):
        raise TypeError(f"rules must be a windrow.generation.Rules, not {kind_of(rules)}")
    followed = defaults.rules if rules is None else rules
    settings = [Settings(limit, stops, temperature, top_k, top_p, followed) for limit in limits]
    if rules is None:
        check_followed({}, defaults.others, defaults.source, temperature > 0, ", ".join(RULES))
    rows = RowSharding.over(sharding, model.params)
    arguments = {
        "max_length": model.max_length,
        "max_new_tokens": limits,
        "generation settings": settings[:1],
        "end_tokens": defaults.end_tokens,
        "seed": seed,
        "policy": policy,
        "on_bad_request": on_bad_request,
        "chunk_length": chunk_length,
    }
    check_same_call("windrow.generate", prompts, tokenizer, rows, arguments)
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
        rows,
        Clock(),
        defaults,
        policy=policy,
        seed=seed,
        chunk_length=chunk_length,
    )
    if end_tokens is not None:
        _check_end_tokens(defaults.end_tokens, generator.vocabulary)
    segments = known_tokens(segments, generator.vocabulary, on_bad_request)
    check_same_tokens("windrow.generate", segments, rows)
    results = [Generated("", (), "skipped")] * len(prompts)

    def one_finished(segment: int, generated: Generated) -> None:
        request = int(segments.requests[segment])
        results[request] = generated
        if finished is not None:
            finished(request, generated)

    failed = generator.run(segments, [settings[request] for request in segments.requests], one_finished)
    undefined = segments.requests[failed]
    if failed and on_bad_request == "raise":
        raise BadRequestsError(dict.fromkeys(undefined.tolist(), NOT_NUMBERS))
    counts = [len(result.tokens) for result in results]
    return Generations(
        [result.text for result in results],
        np.array([token for result in results for token in result.tokens], np.int32),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        tuple(result.reason for result in results),
        np.union1d(segments.skipped, undefined).astype(np.int64),
        generator.report(),
    )


def _admit_callback(finished: Any) -> None:
    if finished is not None and not callable(finished):
        raise TypeError(f"finished must be a function of a prompt's index and its result, not {finished!r}")


def _limits(given: Any, count: int) -> list[Any]:
    """The maximum number of new tokens of each of ``count`` prompts."""
    each = (
        given if isinstance(given, Sequence | np.ndarray) and not isinstance(given, str) else [given] * count
    )
    if len(each) != count:
        raise ValueError(f"max_new_tokens has {len(each)} numbers for {count} prompts")
    return [int(limit) if isinstance(limit, np.integer) else limit for limit in each]


def _defaults(tokenizer: Tokenizer, end_tokens: Any) -> GenerationDefaults:
    """The generation defaults next to the tokenizer, with the given end tokens, if any."""
    defaults = read_defaults(tokenizer.name, tokenizer.eos_token_id)
    if end_tokens is None:
        return defaults
    ends = _several("end_tokens", "token ids", end_tokens)
    if not all(is_whole(token, least=0) for token in ends):
        raise ValueError(f"end_tokens must be token ids, whole numbers of at least 0, not {ends!r}")
    return replace(defaults, end_tokens=tuple(map(int, ends)))


def _check_end_tokens(tokens: Sequence[int], vocabulary: int) -> None:
    """Rejects end tokens that the model cannot generate."""
    for index, token in enumerate(tokens):
        if token >= vocabulary:
            raise ValueError(
                f"end_tokens[{index}] is {token}; the model's vocabulary has {vocabulary} tokens"
            )


def _several(name: str, kind: str, given: Any) -> tuple[Any, ...]:
    if isinstance(given, Iterable):
        return tuple(given)
    raise TypeError(f"{name} must be a sequence of {kind}, not {given!r}")

"""The model class for lm-evaluation-harness: gives the same numbers as its Hugging Face backend."""

import os
from collections.abc import Collection
from copy import copy
from dataclasses import replace
from inspect import signature
from typing import Any, Self

from lm_eval.api.instance import Instance
from lm_eval.api.model import CacheHook
from lm_eval.api.registry import register_model

from windrow.admission import read_whole
from windrow.fingerprint import Fingerprint
from windrow.generation import Generator, read_defaults
from windrow.harness.agreement import agreed
from windrow.harness.arguments import (
    bad_request,
    batch_sizes,
    flag,
    length_limit,
    pack_mode,
    share_mode,
)
from windrow.harness.caching import take_cache
from windrow.harness.chat import Chat
from windrow.harness.foreign import NAMES as FOREIGN_NAMES
from windrow.harness.foreign import take_foreign, unknown
from windrow.harness.generating import TextRequests
from windrow.harness.keeping import Keeper
from windrow.harness.likelihoods import Likelihoods
from windrow.harness.listeners import announce
from windrow.harness.records import Records
from windrow.harness.requests import Requests
from windrow.harness.results import Result, Results
from windrow.harness.scoring import Finished, ScoringJob
from windrow.harness.seeding import evaluation_seed
from windrow.harness.source import find_model, load_checkpoint, within_limit
from windrow.harness.totals import Totals, run_report
from windrow.model import LanguageModel
from windrow.report.run_report import RunReport
from windrow.scoring import Clock, Scorer
from windrow.sharding import RowSharding, put_like, start_devices
from windrow.sizing.memory import DeviceMemory
from windrow.sizing.policy import BatchPolicy
from windrow.tokens import Tokenizer, load_tokenizer


@register_model("windrow")
class JaxLM(Records):
    """A JAX language model for lm_eval.

    Pass a :class:`~windrow.LanguageModel` and a tokenizer, or ``pretrained``, or ``factory``. Numbers may be
    strings, as on a command line.

    Args:
        model: The model, or the value of ``factory``, because lm_eval names its output directory after this
            argument.
        tokenizer: Anything that :func:`windrow.tokens.load_tokenizer` takes.
        pretrained: A directory in the Hugging Face format, or a name on the Hugging Face Hub, to load the
            model and the tokenizer from.
        factory: ``"module:function"``; the function takes no arguments and returns
            a model and a tokenizer.
        dtype: The parameter dtype for ``pretrained``: ``"float32"``, ``"bfloat16"`` or ``"float16"``, in any
            of PyTorch's spellings; ``"auto"`` takes it from ``config.json``, else from the weight files.
        max_length: The maximum input length in tokens; it cannot exceed the limit of ``model``. Default: the
            model's own limit. ``"unbounded"`` removes the limit of a recurrent model.
        batch_size: Rows per batch. ``"auto"``, or lm_eval's ``"auto:N"``, means
            ``tokens_per_batch="auto"``, unless that is a number.
        tokens_per_batch: The maximum number of tokens in a batch, padding included, so batches of short rows
            have more rows. ``"auto"``: as many as fit in device memory, which windrow knows from the compiled
            programs, without running them. Default, if there is no ``batch_size`` either: 8,192.
        max_shapes: The maximum number of distinct batch shapes; each takes one compilation.
        padding_multiple: Padded lengths are multiples of this.
        share: Which work is shared between requests. ``"auto"``: shared prefixes run once, if the model
            supports that and it is cheaper; else equal inputs run once. ``"trees"``: every shared prefix runs
            once, in rows that hold prefix trees; needs ``reach``. ``"forks"``: shared prefixes run once and
            their states are copied; needs ``step``. ``"equal"``: equal inputs run once.
            ``False``: nothing is shared.
        pack: Whether to put several requests in one row. ``"auto"``: if that is cheaper and a test batch
            gives the same results. ``True``: always; an error if the model's results then differ. ``False``:
            never.
        memory_budget: For ``"auto"``: how many bytes batches may use in addition to the parameters, per
            device, or per process if the devices are CPUs; a number, or a string such as ``"2GiB"``. Default:
            all free device memory; on CPUs, half of the available memory.
        on_bad_request: ``"raise"``, or ``"skip"``: a request that cannot be scored counts as a failure (minus
            infinity, not greedy) and is reported.
        add_bos_token: Whether the tokenizer adds its BOS token; default: the tokenizer's own setting.
        prefix_token_id: The token that replaces an empty context; default: BOS, else EOS.
        chunk_length: If given, rows run through the model's ``step`` in chunks of this many tokens, carrying
            the state; for long texts with recurrent models.
        seed: The seed for requests that sample. Default: the seed that lm_eval gives torch, which is
            ``torch_random_seed`` of ``lm_eval.simple_evaluate`` or ``--seed`` on the command line;
            0 if the model is called directly.
        sharding: A ``NamedSharding`` for ``[rows, length]``, or a ``Mesh``; rows are then split over all of
            its axes. Default: the mesh of ``jax.set_mesh``, else the parameters' mesh, else all devices.
        mesh: Another name for ``sharding``, if it is a mesh.
        requests_from_first_host: Whether all hosts use the requests of process 0 instead of their own. If
            not, hosts with different requests are an error.
        subfolder: The subdirectory of ``pretrained`` that contains the model and its tokenizer.
        revision: The branch, tag or commit to download from the Hub. lm_eval's results record it; for a
            directory, it has no other effect.
        logits_cache: Whether to read equal inputs that are split at different places as lm_eval's backend
            does with its own ``logits_cache``, which is on by default.
        think_end_token: The token id or string that ends the reasoning in a generated answer; everything up
            to it is removed.
        enable_thinking: Passed to the chat template; ``True`` needs ``think_end_token`` and rejects
            log-likelihood requests.
        chat_template_args: More variables for the chat template, as a mapping or JSON.
        max_batch_size: Ignored; accepted because lm_eval's command line passes it.
        device: Ignored, because JAX chooses its devices; accepted because lm_eval's command line passes it.
        hf_arguments: Other arguments of lm_eval's Hugging Face backend. A warning lists those that ask for
            something windrow cannot do.

    Raises:
        TypeError, ValueError: An argument is invalid; the message names it.
    """

    def __init__(
        self,
        model: LanguageModel | str | None = None,
        tokenizer: Any = None,
        *,
        pretrained: str | None = None,
        factory: str | None = None,
        dtype: Any = "float32",
        max_length: int | str | None = None,
        batch_size: int | str | None = None,
        tokens_per_batch: int | str | None = None,
        max_shapes: int | str | None = 8,
        padding_multiple: int | str = 1,
        share: bool | str = "auto",
        pack: bool | str = "auto",
        memory_budget: int | str | None = None,
        on_bad_request: str = "raise",
        add_bos_token: bool | str | None = None,
        prefix_token_id: int | str | None = None,
        chunk_length: int | str | None = None,
        seed: int | str | None = None,
        sharding: Any = None,
        mesh: Any = None,
        requests_from_first_host: bool | str = False,
        subfolder: str | None = "",
        revision: str | None = "main",
        logits_cache: bool | str = True,
        think_end_token: int | str | None = None,
        enable_thinking: bool | str | None = None,
        chat_template_args: dict[str, Any] | str | None = None,
        max_batch_size: int | str | None = None,  # noqa: ARG002
        device: str | None = None,  # noqa: ARG002
        **hf_arguments: Any,
    ) -> None:
        super().__init__()
        take_foreign(hf_arguments, _accepted(type(self)))
        self._chat = Chat(chat_template_args, enable_thinking, think_end_token)
        if sharding is not None and mesh is not None:
            raise ValueError("give sharding or mesh, not both")
        self.on_bad_request = bad_request(on_bad_request)
        self.requests_from_first_host = flag("requests_from_first_host", requests_from_first_host)
        rows, tokens = batch_sizes(batch_size, tokens_per_batch)
        self.policy = BatchPolicy(
            batch_size=rows,
            tokens_per_batch=tokens,
            max_shapes=read_whole("max_shapes", max_shapes),
            padding_multiple=read_whole("padding_multiple", padding_multiple) or 1,
            share=share_mode(share),
            pack=pack_mode(pack),
            memory_budget=None if memory_budget == "None" else memory_budget,
        )
        limit = length_limit(max_length)
        found, source, self.source = find_model(
            model, tokenizer, pretrained, factory, subfolder or "", revision, hf_arguments.get("token")
        )
        where = sharding if sharding is not None else mesh
        self.sharding = RowSharding.over(where, found and found.params)
        if found is None:
            start_devices(self.sharding.mesh)
        self.policy.check_groups(self.sharding.groups)
        self.tokenizer: Tokenizer = load_tokenizer(
            source,
            add_bos_token=None if add_bos_token is None else flag("add_bos_token", add_bos_token),
            prefix_token_id=read_whole("prefix_token_id", prefix_token_id, least=0),
        ).with_padding()
        self.model = found or load_checkpoint(
            self.source, dtype, self.sharding.mesh, limit, self.tokenizer.model_max_length
        )
        self.max_length = within_limit(self.model, limit)
        self._memory = DeviceMemory(self.sharding, self.policy.budget_bytes)
        self.chunk_length = read_whole("chunk_length", chunk_length)
        self._seed = read_whole("seed", seed, least=0)
        self._defaults = read_defaults(
            self.source if pretrained else self.tokenizer.name, self.tokenizer.eos_token_id
        )
        self.revision = str(revision)
        self._shifted_reads = flag("logits_cache", logits_cache)
        self._keeper = Keeper()
        self._begin()
        announce(self)

    def _begin(self) -> None:
        """Creates the scorer and the generator, with empty totals."""
        self.clock, self._totals = Clock(), Totals()
        self._scorer = Scorer(self.model, self.sharding, self.clock, self.chunk_length, self.policy)
        self.model = replace(self.model, params=self._scorer.params)
        self._likelihoods = Likelihoods(
            self.tokenizer,
            self.max_length,
            self._scorer.vocabulary,
            self.on_bad_request,
            self._shifted_reads,
        )
        self._generator = Generator(
            self.model,
            self.tokenizer,
            self.sharding,
            self.clock,
            self._defaults,
            policy=self.policy,
            chunk_length=self.chunk_length,
            memory=self._memory,
            vocabulary=self._scorer.vocabulary,
            think_end=self._chat.think_end,
        )

    def with_params(self, params: Any) -> Self:
        """The same model with other parameters, such as the next checkpoint, without recompiling.

        Args:
            params: Parameters with the same structure, shapes and dtypes. Each leaf, whether a NumPy array or
                an array on any device, is moved to the devices of the leaf it replaces.

        Returns:
            A separate model, with an empty report and without lm_eval's results cache.

        Raises:
            TypeError, ValueError: The parameters do not match; the message names the leaf.

        >>> lm = JaxLM(model, tokenizer)  # doctest: +SKIP
        >>> for step, params in checkpoints:  # doctest: +SKIP
        ...     results = lm_eval.simple_evaluate(lm.with_params(params), tasks=["arc_easy"])
        """
        if isinstance(params, LanguageModel):
            raise TypeError("params must be a model's parameters, not a LanguageModel; pass model.params")
        other = copy(self)
        other.model = replace(self.model, params=put_like(params, self._scorer.params))
        other.cache_hook, other._keeper = CacheHook(None), Keeper()
        other._begin()
        return other

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict[str, Any] | None = None) -> Self:
        """Creates the model from ``"name=value,name=value"``, as lm_eval's command line does.

        Raises:
            ValueError: A name is unknown.
        """
        parts = [part.partition("=") for part in arg_string.split(",") if part]
        values = {name: None if value.lower() == "none" else value for name, _, value in parts}
        return cls.create_from_arg_obj(values, additional_config)

    @classmethod
    def create_from_arg_obj(
        cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None
    ) -> Self:
        """Creates the model from a dictionary of arguments, which take precedence over lm_eval's.

        Raises:
            ValueError: A name is unknown.
        """
        accepted = _accepted(cls)
        for name in arg_dict:
            if name not in (*accepted, *FOREIGN_NAMES):
                raise ValueError(unknown(name, accepted))
        extra = {name: value for name, value in (additional_config or {}).items() if value is not None}
        if "tokens_per_batch" in arg_dict:
            extra.pop("batch_size", None)
        return cls(**{**extra, **arg_dict})

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """The log-likelihood of each request's continuation, and whether greedy decoding would produce it.

        Args:
            requests: Each one's ``args`` is ``(context, continuation)``.

        Returns:
            For each request, the sum of its continuation's log-probabilities in nats,
            and whether every one of its tokens is the most likely one.
        """
        asked = self._agreed("loglikelihood", requests)
        self._chat.refuse_scoring(asked)
        with asked.named(), self.clock.phase("tokenize"):
            job = self._likelihoods.of_pairs(asked)
        results = self._results(asked, (-float("inf"), False))
        self._score(job, results.known, lambda request, total, greedy: results.add(request, (total, greedy)))
        return [(total, greedy) for total, greedy in results.all]

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """The log-likelihood of each request's whole text, in nats.

        Args:
            requests: Each one's ``args`` is ``(text,)``. A text longer than the model's
                limit is scored in disjoint windows.
        """
        asked = self._agreed("loglikelihood_rolling", requests)
        with asked.named(), self.clock.phase("tokenize"):
            job = self._likelihoods.of_texts(asked)
        results = self._results(asked, 0.0)
        failed = self._score(job, results.known, lambda request, total, _: results.add(request, total))
        for request in [*job.own.skipped, *failed]:
            results.all[request] = -float("inf")
        return results.all

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """The text that follows each request's context.

        Args:
            requests: Each one's ``args`` is ``(context, generation keywords)``.

        Returns:
            For each request, its text, cut at the stop strings; empty for skipped requests.
        """
        self._generator.seed = self.seed
        asked = self._agreed("generate_until", requests)
        with asked.named(), self.clock.phase("tokenize"):
            texts = TextRequests(asked.arguments, self._generator, self.max_length, self.on_bad_request)
        results = self._results(asked, "")
        with asked.named():
            failed = texts.run(results.add, results.known)
        skipped = texts.skipped + failed
        self._totals.add_generated(len(asked) - len(results.known), texts.truncated, skipped)
        self._keeper.sync()
        return results.all

    def keep_results(self, folder: str | os.PathLike[str]) -> None:
        """Saves each result to a folder as soon as it is computed, and reuses results that are already there.

        A killed run loses at most the batch being computed and the one before; with several processes, it
        loses the results not yet gathered, a few seconds of work. Running it again resumes from there, on any
        number of devices and processes. Samples match those of an uninterrupted run. Only process 0 reads and
        writes the folder.

        Args:
            folder: The folder; created if it does not exist.

        Raises:
            OSError: The folder cannot be written.
            ValueError: The folder holds results of another model, tokenizer or settings; the message says
                what differs. Raised when the first requests arrive.
        """
        self._keeper = Keeper(folder)
        self._scorer.in_flight = 1  # whatever is computed but not fetched is lost with the process

    @property
    def seed(self) -> int:
        """The seed for sampling: the argument ``seed``, else lm_eval's seed during an evaluation, else 0."""
        return next((seed for seed in (self._seed, evaluation_seed()) if seed is not None), 0)

    def report(self) -> RunReport:
        """A summary of the runs so far; printing it shows a short text.

        Returns:
            A dictionary with these entries:

            - ``requests``, ``segments``, ``rows`` (without filler) and ``batches``;
            - ``real_tokens`` (all requests' inputs, shared or not), ``row_tokens`` (those left after sharing,
              which occupy rows), ``padding_tokens`` (including filler) and ``device_tokens`` (the sum of the
              last two);
            - ``shapes``, as ``[rows, length]`` lists;
            - ``truncated``, ``shared`` and ``skipped`` requests;
            - ``devices``: their ``count`` and ``kind``, and how many ``hosts`` hold them;
            - ``layout`` of the last scoring run: the values of ``share`` and ``pack`` that select it and, if
              windrow chose it, the ``costs`` of each layout (``rows``, ``packed``, ``trees``), in tokens of a
              short row;
            - ``seconds`` of host time by phase: ``tokenize``, ``plan``, ``compile`` (waiting
              for the compiler), ``host`` (filling arrays) and ``device`` (waiting for
              results);
            - ``device_seconds``, for ``scoring`` and ``generation``: ``running``,
              ``waiting_for_host`` and ``waiting_for_compiler``;
            - ``generation``, once texts have been generated: see
              :meth:`windrow.generation.Generator.report`;
            - ``auto``, if batch sizes depend on device memory: for ``scoring`` and ``generation``, how the
              last run was sized, in bytes: ``memory_budget``, ``planned_bytes`` (the part of it that windrow
              uses), ``predicted_bytes``, and the result, ``tokens_per_batch`` or ``slots``.
        """
        return RunReport(run_report(self._totals, self._scorer, self._generator))

    def set_cache_hook(self, cache_hook: CacheHook) -> None:
        """Uses lm_eval's cache. Process 0's entries replace those of the other hosts.

        Raises:
            ValueError: The cache belongs to another model, or to settings that give other results.
        """
        take_cache(cache_hook, self._fingerprint)
        super().set_cache_hook(cache_hook)

    def _fingerprint(self) -> Fingerprint:
        """Everything that affects results, by name."""
        return {
            **self._scorer.identity,
            "tokenizer": self.tokenizer.fingerprint,
            "max_length": str(self.max_length),
            "generation config": str(self._generator.defaults),
            "seed": str(self.seed),
            "think_end_token": str(self._generator.think_end),
            "logits_cache": str(self._shifted_reads),
            "on_bad_request": self.on_bad_request,
        }

    def _agreed(self, kind: str, requests: list[Instance]) -> Requests:
        """The requests, checked to be the same on every host."""
        settings = {
            "tokenizer": self.tokenizer.fingerprint,
            "max_length": str(self.max_length),
            "batch policy": str(self.policy),
            "chunk_length": str(self.chunk_length),
            "on_bad_request": self.on_bad_request,
            "seed": str(self.seed),
            "end tokens": str(self._generator.defaults),
            "sharding": self.sharding.description,
            "keep_results": str(self._keeper.folder is not None),
            "requests_from_first_host": str(self.requests_from_first_host),
        }
        return agreed(Requests.of(kind, requests), settings, self.requests_from_first_host)

    def _results(self, asked: Requests, unknown: Result) -> Results[Result]:
        """The results of a call, those of an earlier run included."""
        return Results(asked, unknown, self._keeper, self._fingerprint, self.cache_hook)

    def _score(self, job: ScoringJob, known: Collection[int], finished: Finished) -> set[int]:
        """Reports each request's total as soon as it is complete; returns the requests that failed.

        Args:
            job: All requests.
            known: Those that need not run.
            finished: Gets the totals of the others.
        """
        job = job.without(known)
        with job.requests.named(), self._scorer.one_run():
            plan = self._scorer.plan(self.policy, job.segments, self._memory)
            failed = job.run(self._scorer, plan, self.on_bad_request, finished)
        self._keeper.sync()
        self._totals.add_scored(plan, job.own, len(failed), len(known))
        return failed


def _accepted(cls: type[JaxLM]) -> list[str]:
    """The names of the arguments that windrow itself defines."""
    return [name for name in signature(cls.__init__).parameters if name not in ("self", "hf_arguments")]

"""JaxLM through lm_eval itself, and against what lm_eval's own backend recorded."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager

import windrow
from byte_tokenizer import ByteTokenizer
from exhaustive import exhaustive
from small_model import head, hidden, init_state, naive_logprobs, prefix_model, step
from windrow.harness import JaxLM
from windrow.sizing.policy import BatchPolicy
from windrow.tokens import load_tokenizer, loglikelihood_segments

pytestmark = pytest.mark.filterwarnings("ignore:tokenizer .* encodes in Python")


def byte_lm(**arguments):
    arguments = {"model": prefix_model(256, hidden=hidden, head=head, max_length=64), **arguments}
    return JaxLM(tokenizer=ByteTokenizer(), prefix_token_id=0, **arguments)


def requests_of(request_type, *arguments):
    return [Instance(request_type, {}, args, index) for index, args in enumerate(arguments)]


def test_loglikelihood_equals_recomputation():
    lm = byte_lm()
    pairs = [
        ("The sky is", " blue"),
        ("The sky is", " b"),
        ("The sky is ", "grey"),
        ("", "x"),
        ("The sky is", " g"),
    ]
    results = lm.loglikelihood(requests_of("loglikelihood", *pairs))
    for (context, continuation), (total, greedy) in zip(pairs, results, strict=True):
        stripped = context.rstrip()
        sequence = list((context + continuation).encode())
        scored = len(sequence) - len(stripped)
        sequence = [0, *sequence] if not context else sequence
        expected = naive_logprobs(lm.model.params, sequence)[-scored:]
        assert total == pytest.approx(sum(p for p, _ in expected), abs=1e-4)
        assert greedy == all(flag for _, flag in expected)


def test_equal_inputs_split_at_different_places_are_read_as_the_harness_reads_them():
    """HFLM reads the shorter continuation's log-probabilities where the longer one's begin."""
    lm = byte_lm()
    shorter, longer = lm.loglikelihood(requests_of("loglikelihood", ("abc", "xyz"), ("ab", "cxyz")))
    sequence = list(b"abcxyz")
    assert longer[0] == pytest.approx(
        sum(p for p, _ in naive_logprobs(lm.model.params, sequence)[-4:]), abs=1e-4
    )
    shifted = sum(
        naive_logprobs(lm.model.params, [*sequence[: 2 + place], target])[-1][0]
        for place, target in enumerate(b"xyz")
    )
    assert shorter[0] == pytest.approx(shifted, abs=1e-4)
    alone = lm.loglikelihood(requests_of("loglikelihood", ("abc", "xyz")))
    assert alone[0][0] == pytest.approx(
        sum(p for p, _ in naive_logprobs(lm.model.params, sequence)[-3:]), abs=1e-4
    )
    assert shorter[1] == alone[0][1]
    assert lm.report()["segments"] == 3


def test_grouping_goes_by_what_requests_were_before_truncation():
    lm = byte_lm(max_length=4)
    pairs = [("1abc", "xyz"), ("2ab", "cxyz")]  # the last five bytes are equal, the whole is not
    together = lm.loglikelihood(requests_of("loglikelihood", *pairs))
    apart = [lm.loglikelihood(requests_of("loglikelihood", pair))[0] for pair in pairs]
    assert np.allclose([total for total, _ in together], [total for total, _ in apart], atol=1e-4)


def test_rolling_covers_every_token_once():
    lm = byte_lm()
    texts = [
        "short",
        "a much longer text that has to be cut into windows of sixty-four bytes each, twice or more" * 2,
        "",
    ]
    totals = lm.loglikelihood_rolling(requests_of("loglikelihood_rolling", *[(text,) for text in texts]))
    for text, total in zip(texts, totals, strict=True):
        tokens = list(text.encode())
        expected = 0.0
        for begin in range(0, len(tokens), 64):
            window = tokens[begin : begin + 64]
            before = tokens[begin - 1] if begin else 0
            if begin and len(window) < 64:  # the last window sees as much of the text before as fits
                seen = tokens[len(tokens) - 65 : -len(window) or None]
                expected += sum(
                    p for p, _ in naive_logprobs(lm.model.params, [*seen, *window])[-len(window) :]
                )
            else:
                expected += sum(p for p, _ in naive_logprobs(lm.model.params, [before, *window]))
        assert total == pytest.approx(expected, abs=1e-3)


def test_results_reach_the_cache_with_the_original_strings():
    lm = byte_lm()
    seen = {}

    class Hook:
        def add_partial(self, kind, arguments, result):
            seen[kind, tuple(arguments)] = result

    lm.set_cache_hook(Hook())
    pairs = [("one ", "two"), ("three", " four")]
    results = lm.loglikelihood(requests_of("loglikelihood", *pairs))
    totals = lm.loglikelihood_rolling(requests_of("loglikelihood_rolling", ("five",)))
    assert seen == {
        **{("loglikelihood", pair): result for pair, result in zip(pairs, results, strict=True)},
        ("loglikelihood_rolling", ("five",)): totals[0],
    }


def test_report_counts_what_ran():
    lm = byte_lm(batch_size=8)
    lm.loglikelihood(requests_of("loglikelihood", ("ab", "c"), ("ab", "d"), ("abc", "def")))
    report = lm.report()
    assert report["requests"] == report["segments"] == 3
    assert report["shared"] == 1
    assert report["real_tokens"] == 2 + 2 + 5
    assert report["device_tokens"] == sum(rows * length for rows, length in report["shapes"])
    assert set(report["seconds"]) == {"tokenize", "plan", "compile", "host", "device"}


def biased_lm(bias, arguments=None, **options):
    """A model over bytes whose logits are the prefix model's plus ``bias(last byte)``, ``[256]``."""
    model = prefix_model(256, max_length=64)

    def biased(params, tokens, positions, segment_ids):
        return model.apply(params, tokens, positions, segment_ids) + jax.vmap(jax.vmap(bias))(tokens)

    return JaxLM(
        windrow.LanguageModel(model.params, biased, max_length=64),
        ByteTokenizer(),
        **{"prefix_token_id": 0, "on_bad_request": "raise", **options},
    )


def named_requests(request_type, *arguments):
    return [
        Instance(request_type, {}, args, index, ("animals", 10 + index, 1))
        for index, args in enumerate(arguments)
    ]


SHARED_AND_PACKED = [{}, {"pack": True}, {"share": False}, {"batch_size": 8}]


@pytest.mark.parametrize("options", SHARED_AND_PACKED, ids=str)
def test_a_logit_of_minus_infinity_is_legal(options):
    """As log_softmax has it: such a token's log-probability is minus infinity, the others' are as ever."""
    banned = ord("z")
    lm = biased_lm(lambda last: jnp.where(jnp.arange(256) == banned, -jnp.inf, 0.0), **options)
    pairs = [("ab", "z"), ("ab", "c"), ("ab", "cz"), ("abc", "de"), ("ab", "zc")]
    results = lm.loglikelihood(requests_of("loglikelihood", *pairs))
    for (context, continuation), (total, greedy) in zip(pairs, results, strict=True):
        if "z" in continuation:
            assert (total, greedy) == (-np.inf, False)
        else:
            assert total == pytest.approx(expected_without(lm, banned, context, continuation), abs=1e-4)
    totals = lm.loglikelihood_rolling(requests_of("loglikelihood_rolling", ("az",), ("ab",)))
    assert totals[0] == -np.inf
    assert np.isfinite(totals[1])
    scores = windrow.score(lm.model, lm.tokenizer, pairs)
    assert scores.log_likelihoods.tolist() == pytest.approx([total for total, _ in results], abs=1e-5)
    assert scores.skipped.tolist() == []


def expected_without(lm, banned, context, continuation):
    """The continuation's log-likelihood where one token has probability 0."""
    total, sequence = 0.0, list((context + continuation).encode())
    for end in range(len(context), len(sequence)):
        every = [naive_logprobs(lm.model.params, [*sequence[:end], token])[-1][0] for token in (banned,)]
        total += naive_logprobs(lm.model.params, sequence[: end + 1])[-1][0] - np.log1p(-np.exp(every[0]))
    return total


def test_a_greedy_flag_stands_beside_minus_infinity():
    """Where all logits but one are minus infinity that one is certain."""
    lm = biased_lm(lambda last: jnp.where(jnp.arange(256) == last + 1, 0.0, -jnp.inf))
    results = lm.loglikelihood(requests_of("loglikelihood", ("a", "b"), ("a", "bc"), ("a", "bd"), ("a", "x")))
    assert results == [(0.0, True), (0.0, True), (-np.inf, False), (-np.inf, False)]


def not_a_number(last):
    return jnp.where(last == ord("!"), jnp.nan, 0.0) * jnp.ones(256)


PAIRS = [("ab", "c"), ("oh!", "d"), ("ab", "d"), ("abcdef", "gh"), ("a", "b!c"), ("a", "b!")]


@pytest.mark.parametrize("options", SHARED_AND_PACKED, ids=str)
def test_a_request_without_a_number_is_named_and_the_others_are_done(options):
    lm, kept = biased_lm(not_a_number, **options), {}

    class Hook:
        def add_partial(self, kind, arguments, result):
            kept[tuple(arguments)] = result

    lm.set_cache_hook(Hook())
    message = (
        r"(?s)^request 1 \(task animals, document 11\): the model's log-probability is not a number \(NaN\)"
        r".*\nrequest 4 \(task animals, document 14\): .*on_bad_request=\"skip\"\.$"
    )
    with pytest.raises(ValueError, match=message):
        lm.loglikelihood(named_requests("loglikelihood", *PAIRS))
    assert set(kept) == {pair for index, pair in enumerate(PAIRS) if index not in (1, 4)}
    assert all(np.isfinite(total) for total, _ in kept.values())


@pytest.mark.parametrize("options", SHARED_AND_PACKED, ids=str)
def test_a_request_without_a_number_may_be_skipped(options):
    good = biased_lm(lambda last: jnp.zeros(256)).loglikelihood(requests_of("loglikelihood", *PAIRS))
    lm = biased_lm(not_a_number, on_bad_request="skip", **options)
    with pytest.warns(UserWarning, match=r"as failures: request 1 \(task animals, document 11\), request 4"):
        results = lm.loglikelihood(named_requests("loglikelihood", *PAIRS))
    for index, (result, expected) in enumerate(zip(results, good, strict=True)):
        assert result == (
            (-np.inf, False) if index in (1, 4) else (pytest.approx(expected[0], abs=1e-4), expected[1])
        )
    assert lm.report()["skipped"] == 2
    with pytest.warns(UserWarning, match="as failures: request 1"):
        totals = lm.loglikelihood_rolling(requests_of("loglikelihood_rolling", ("ab",), ("a!b",), ("",)))
    assert (np.isfinite(totals[0]), totals[1:]) == (True, [-np.inf, 0.0])


def test_scores_that_are_no_numbers_are_named_or_listed():
    lm = biased_lm(not_a_number)
    with pytest.raises(ValueError, match=r"(?s)^request 1: the model's log-probability .*request 4: "):
        windrow.score(lm.model, lm.tokenizer, PAIRS)
    scores = windrow.score(lm.model, lm.tokenizer, PAIRS, on_bad_request="skip")
    assert scores.skipped.tolist() == [1, 4]
    assert scores.log_likelihoods[[1, 4]].tolist() == [-np.inf, -np.inf]
    assert not scores.greedy[[1, 4]].any()
    assert np.isfinite(scores.log_likelihoods[[0, 2, 3, 5]]).all()


def test_a_model_that_knows_no_numbers_ends_the_run_early():
    lm = biased_lm(lambda last: jnp.full(256, jnp.inf), batch_size=8, share=False)
    pairs = [("a" * (1 + index % 30), "b") for index in range(400)]
    with pytest.raises(ValueError, match=r"(?s)^request 22 \(task animals, document 32\): .*\nand 94 more\n"):
        lm.loglikelihood(named_requests("loglikelihood", *pairs))
    assert lm.report()["requests"] == 0


def test_parameters_may_be_overwritten_once_the_model_is_made():
    model = prefix_model(256, max_length=64)
    arrays = {name: np.array(value) for name, value in model.params.items()}
    first = requests_of("loglikelihood", ("ab", "cd"))
    expected = JaxLM(model, ByteTokenizer(), prefix_token_id=0).loglikelihood(first)
    lm = JaxLM(replace(model, params=arrays), ByteTokenizer(), prefix_token_id=0)
    for array in arrays.values():
        array[:] = 0
    assert lm.loglikelihood(first) == expected
    one = Mesh(np.array(jax.devices()[:1]), ("data",))  # where JAX would use NumPy's memory as it is
    arrays = {name: aligned(value) for name, value in model.params.items()}
    lm = JaxLM(replace(model, params=arrays), ByteTokenizer(), prefix_token_id=0, mesh=one)
    for array in arrays.values():
        array[:] = 0
    assert lm.loglikelihood(first)[0][0] == pytest.approx(expected[0][0], abs=1e-5)


def aligned(value):
    """A NumPy array whose memory begins at a multiple of 64 bytes."""
    memory = np.empty(value.nbytes + 64, np.uint8)
    begin = -memory.ctypes.data % 64
    array = memory[begin : begin + value.nbytes].view(np.float32).reshape(value.shape)
    array[:] = value
    return array


@pytest.mark.parametrize("devices", [1, 8])
def test_donated_parameters_are_named(devices):
    mesh = Mesh(np.array(jax.devices()[:devices]), ("data",))
    model = prefix_model(256, hidden=hidden, head=head, init_state=init_state, step=step, max_length=64)
    params = jax.device_put(model.params, NamedSharding(mesh, PartitionSpec()))
    lm = JaxLM(replace(model, params=params), ByteTokenizer(), prefix_token_id=0, mesh=mesh)
    trained = jax.jit(lambda params: jax.tree.map(lambda leaf: leaf * 2, params), donate_argnums=0)(params)
    message = r"params\['embedding'\] has been deleted: it was donated to a compiled function"
    with pytest.raises(ValueError, match=message):
        lm.loglikelihood(requests_of("loglikelihood", ("ab", "c")))
    with pytest.raises(ValueError, match=message):
        lm.generate_until(requests_of("generate_until", ("ab", {"max_gen_toks": 2})))
    with pytest.raises(ValueError, match=message):
        JaxLM(replace(model, params=params), ByteTokenizer(), prefix_token_id=0, mesh=mesh)
    lm = JaxLM(replace(model, params=trained), ByteTokenizer(), prefix_token_id=0, mesh=mesh)
    assert np.isfinite(lm.loglikelihood(requests_of("loglikelihood", ("ab", "c")))[0][0])


def test_errors_of_every_kind_of_request_name_task_and_document():
    lm = byte_lm(
        model=prefix_model(256, hidden=hidden, head=head, init_state=init_state, step=step, max_length=64)
    )
    where = r"request 1 \(task animals, document 11\): "
    with pytest.raises(ValueError, match=where + "its continuation merges into the context"):
        lm.loglikelihood(named_requests("loglikelihood", ("a", "b"), ("a", "")))
    with pytest.raises(ValueError, match=where):
        lm.loglikelihood_rolling(named_requests("loglikelihood_rolling", ("a",), (3,)))
    for keywords in ({"max_gen_toks": 100}, {"max_gen_toks": -1}):
        asked = [("a", {"max_gen_toks": 2}), ("a", keywords)]
        with pytest.raises(ValueError, match=where):
            lm.generate_until(named_requests("generate_until", *asked))


def wrong_model(**parts):
    return JaxLM(
        replace(prefix_model(256, hidden=hidden, head=head), **parts), ByteTokenizer(), prefix_token_id=0
    )


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"apply": lambda p, tokens, *_: tokens}, r"apply returned shape \(8, 8\); expected \[8, 8, size\]"),
        (
            {"apply": lambda p, tokens, *_: jnp.zeros((8, 8, 256), jnp.int32)},
            "apply returned int32; expected a floating-point dtype",
        ),
        ({"hidden": lambda p, tokens, *_: jnp.zeros((8, 4))}, "hidden returned shape"),
        (
            {"head": lambda p, picked: jnp.zeros((len(picked), 9))},
            "vocabulary sizes: apply 256, head 9",
        ),
    ],
)
def test_models_that_break_the_contract_are_refused_before_anything_runs(parts, message):
    with pytest.raises(ValueError, match=message):
        wrong_model(**parts)


def test_scoring_takes_a_tokenizer_that_cannot_decode():
    class Encoder:
        encode = staticmethod(lambda text: list(text.encode()))
        eot_token = 0

    lm = JaxLM(prefix_model(256), Encoder())
    assert np.isfinite(lm.loglikelihood(requests_of("loglikelihood", ("", "a")))[0][0])
    with pytest.raises(TypeError, match=r"has no decode\(tokens\), which is needed here"):
        lm.generate_until(requests_of("generate_until", ("a", {"max_gen_toks": 2})))


@pytest.mark.parametrize("max_length", [65, "65", "unbounded"])
def test_no_more_tokens_than_the_model_can_see(max_length):
    model = prefix_model(256, max_length=64)
    with pytest.raises(ValueError, match=r"max_length=.* exceeds the model's limit of 64 tokens"):
        JaxLM(model, ByteTokenizer(), prefix_token_id=0, max_length=max_length)
    assert JaxLM(model, ByteTokenizer(), prefix_token_id=0, max_length="64").max_length == 64


def test_a_tokenizer_may_have_more_tokens_than_the_model():
    """Only those that are used must have logits; the reference fails on others, too (an index error)."""

    class Sized(ByteTokenizer):
        vocab_size = 257

    lm = JaxLM(prefix_model(200, max_length=64), Sized(), prefix_token_id=0)
    pairs = [("ab", "c"), ("ab", "\u00ff"), ("ab", "d")]
    smaller = naive_logprobs(lm.model.params, list(b"abc"))[-1][0]
    assert lm.loglikelihood(requests_of("loglikelihood", pairs[0]))[0][0] == pytest.approx(smaller, abs=1e-4)
    message = r"^request 1 \(task animals, document 11\): token 255 is outside the model's vocabulary of 200"
    wide = [("ab", "c"), ("ab", "\u00ff"), ("ab", "d")]
    Sized.encode = lambda self, text: [min(ord(letter), 255) for letter in text]
    with pytest.raises(ValueError, match=message):
        lm.loglikelihood(named_requests("loglikelihood", *wide))
    lm = JaxLM(prefix_model(200, max_length=64), Sized(), prefix_token_id=0, on_bad_request="skip")
    results = lm.loglikelihood(named_requests("loglikelihood", *wide))
    assert results[1] == (-np.inf, False)
    assert results[0][0] == pytest.approx(smaller, abs=1e-4)
    assert np.isfinite(results[2][0])
    assert lm.report()["skipped"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 3}, "batch_size is 3; it must be a multiple of 8"),
        ({"batch_size": "many"}, "batch_size must be a whole number of at least 1, not 'many'"),
        ({"batch_size": 8, "tokens_per_batch": 100}, "batch_size or tokens_per_batch, not both"),
        ({"share": "perhaps"}, "share must be 'auto', 'trees', 'forks', 'equal' or False, not 'perhaps'"),
        ({"on_bad_request": "ignore"}, "on_bad_request"),
        ({"pretrained": "nowhere"}, "give one of model"),
        ({"model": None, "factory": "no_such_module:make"}, "factory no_such_module:make not found"),
        (
            {"model": None, "factory": "json:no_such_function"},
            "factory json:no_such_function not found",
        ),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        byte_lm(**arguments)


def test_unknown_argument_lists_the_accepted_ones():
    with pytest.raises(ValueError, match=r"unknown model argument 'pretrain'; did you mean 'pretrained'\?"):
        JaxLM.create_from_arg_string("pretrain=somewhere")


def test_arguments_may_be_strings(tmp_path, monkeypatch):
    (tmp_path / "made.py").write_text(
        "from byte_tokenizer import ByteTokenizer\nfrom small_model import prefix_model\n"
        "make = lambda: (prefix_model(256), ByteTokenizer())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    lm = JaxLM.create_from_arg_string(
        "factory=made:make,prefix_token_id=0,tokens_per_batch=512,share=false,max_length=32,add_bos_token=None",
        {"batch_size": 1, "device": "cuda:0", "max_batch_size": None},
    )
    assert (lm.policy.tokens_per_batch, lm.policy.share) == (512, False)
    assert (lm.max_length, lm.batch_size) == (32, "auto")


@pytest.fixture(scope="session")
def tiny_llama(evals):
    return JaxLM(pretrained=str(evals / "parity" / "tiny-llama"))


@pytest.mark.usefixtures("optimized")
def test_recorded_results_of_the_reference_backend(evals, tiny_llama):
    lines = [json.loads(line) for line in (evals / "parity" / "llama.jsonl").read_text().split("\n") if line]
    for kind in ("loglikelihood", "loglikelihood_rolling"):
        cases = [line for line in lines if line["type"] == kind]
        results = getattr(tiny_llama, kind)(requests_of(kind, *[tuple(case["args"]) for case in cases]))
        for case, result in zip(cases, results, strict=True):
            total, recorded = result, case["result"]
            if kind == "loglikelihood":
                assert result[1] == recorded[1], case["args"]
                total, recorded = result[0], recorded[0]
            assert total == pytest.approx(recorded, abs=1e-3 + 1e-5 * abs(recorded)), case["args"]


@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize("limit", [2, exhaustive(50)])
def test_real_tasks_end_to_end(evals, tiny_llama, limit):
    tasks = TaskManager(include_path=str(evals / "tasks"), include_defaults=False)
    names = ["local_arc_easy", "local_lambada_openai", "local_wikitext2"]
    results = simple_evaluate(tiny_llama, tasks=names, task_manager=tasks, limit=limit, bootstrap_iters=0)[
        "results"
    ]
    assert 0.0 <= results["local_arc_easy"]["acc,none"] <= 1.0
    # A uniform model over the 4,096 tokens, for words of two tokens.
    assert 1.0 < results["local_lambada_openai"]["perplexity,none"] < 4096**2
    # A uniform model over the 4,096 tokens would need about 3 bits a byte; this one was trained.
    assert 0.5 < results["local_wikitext2"]["bits_per_byte,none"] < 3.0


@pytest.mark.parametrize("limit", [10, exhaustive(100)])
def test_the_table_is_what_the_scores_say(evals, tiny_llama, limit):
    """lm_eval's accuracies, recomputed from log-likelihoods and lengths of the choices in bytes."""
    tasks = TaskManager(include_path=str(evals / "tasks"), include_defaults=False)
    found = simple_evaluate(
        tiny_llama, tasks=["local_arc_easy", "local_piqa"], task_manager=tasks, limit=limit, bootstrap_iters=0
    )
    for name, normalised in (("arc_easy", True), ("piqa", False)):
        lines = (evals / "data" / f"{name}.jsonl").read_text().split("\n")[:limit]
        documents = [json.loads(line) for line in lines]
        pairs = [
            (f"{document['query']}\nAnswer:", f" {choice}")
            for document in documents
            for choice in document["choices"]
        ]
        totals = iter([total for total, _ in tiny_llama.loglikelihood(requests_of("loglikelihood", *pairs))])
        right = right_normalised = 0
        for document in documents:
            scores = np.array([next(totals) for _ in document["choices"]])
            sizes = np.array([len(choice) for choice in document["choices"]])
            right += int(scores.argmax()) == document["gold"]
            right_normalised += int((scores / sizes).argmax()) == document["gold"]
        metrics = found["results"][f"local_{name}"]
        assert metrics["acc,none"] == pytest.approx(right / limit)
        if normalised:
            assert metrics["acc_norm,none"] == pytest.approx(right_normalised / limit)


@pytest.mark.exhaustive
def test_local_suite_is_dense(evals, local_suite):
    """Device tokens per real token over the whole suite, with GPT-2's tokenizer."""
    tokenizer = load_tokenizer(evals / "parity" / "tiny-gpt2")
    segments = loglikelihood_segments(tokenizer, [request.args for request in local_suite])
    real = len(segments.tokens) - len(segments)

    def ratio(**policy):
        statistics = BatchPolicy(batch_size=64, **policy).plan(segments, 1).statistics
        return statistics["device_tokens"] / real, len(statistics["shapes"])

    density, shapes = ratio(max_shapes=8)
    assert density <= 0.92
    assert shapes <= 8
    density, shapes = ratio(max_shapes=16)
    assert density <= 0.83
    assert shapes <= 16
    assert ratio(max_shapes=8, pack=True)[0] <= 0.76
    assert segments.equal_inputs.shape == (len(local_suite),)


def test_limits_of_checkpoints(evals):
    """The configuration's limit, else 2,048 tokens even for a recurrent model, unless none is asked for."""
    mamba = str(evals / "parity" / "tiny-mamba")
    assert JaxLM(pretrained=mamba).max_length == 2048
    assert JaxLM(pretrained=mamba, max_length="unbounded").max_length is None
    assert JaxLM(pretrained=mamba, max_length="100").max_length == 100
    assert JaxLM(pretrained=str(evals / "parity" / "tiny-llama")).max_length == 256

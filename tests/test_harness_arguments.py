"""Arguments of lm_eval's Hugging Face backend, and the model information in results."""

import json
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager
from safetensors.numpy import load_file, save_file

import windrow
from byte_tokenizer import ByteTokenizer
from exhaustive import exhaustive, quick
from small_model import head, hidden, init_state, prefix_model, step
from windrow.generation.answer import read_answer
from windrow.harness import JaxLM, foreign

pytestmark = pytest.mark.filterwarnings("ignore:tokenizer .* encodes in Python")


class ChatTokenizer(ByteTokenizer):
    chat_template = "{{ messages[0].content }}|{{ enable_thinking }}|{{ date }}|"


def byte_lm(**arguments):
    model = prefix_model(256, hidden=hidden, head=head, init_state=init_state, step=step, max_length=64)
    return JaxLM(model, ChatTokenizer(), **{"prefix_token_id": 0, **arguments})


# The parameters of HFLM.__init__ in lm_eval 0.4.13, with their defaults.
HFLM = {
    "backend": "default", "revision": "main", "subfolder": "", "truncation": False, "logits_cache": True,
    "max_length": None, "device": "cuda", "dtype": "auto", "softmax_dtype": None,
    "mixed_precision_dtype": None, "batch_size": 8, "max_batch_size": 64, "trust_remote_code": False,
    "use_fast_tokenizer": True, "add_bos_token": None, "prefix_token_id": 0, "parallelize": False,
    "max_memory_per_gpu": None, "max_cpu_memory": None, "offload_folder": "./offload", "tp_plan": None,
    "peft": None, "delta": None, "autogptq": False, "gptqmodel": False, "gguf_file": None,
    "think_end_token": None, "enable_thinking": None, "chat_template_args": None,
}  # fmt: skip


def test_every_hflm_argument_is_accepted():
    """HFLM's default values have no effect, given as values or as strings."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "tokenizer .* encodes in Python")
        byte_lm(**HFLM)
        JaxLM.create_from_arg_obj(
            {"model": prefix_model(256), "tokenizer": ChatTokenizer(), "trust_remote_code": "True", **HFLM}
        )
        written = {name: str(value) for name, value in HFLM.items() if name in foreign.NAMES}
        byte_lm(**written, low_cpu_mem_usage=True, device_map=None)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("truncation", "True"),
        ("parallelize", True),
        ("device_map", "auto"),
        ("peft", "some/adapter"),
        ("attn_implementation", "sdpa"),
        ("backend", "seq2seq"),
        ("softmax_dtype", "bfloat16"),
        ("load_in_8bit", True),
        ("use_fast_tokenizer", False),
        ("mixed_precision_dtype", "bfloat16"),
    ],
)
def test_ignored_arguments_are_warned_about_once(argument, value):
    with pytest.warns(UserWarning, match="ignored model arguments") as seen:
        byte_lm(**{argument: value})
    (warning,) = [str(each.message) for each in seen if "ignored model arguments" in str(each.message)]
    assert warning.startswith(f"ignored model arguments: {argument}={value!r} (")


def test_unknown_arguments_are_refused():
    with pytest.raises(TypeError, match=r"unknown model argument 'pretrain'; did you mean 'pretrained'\?"):
        byte_lm(pretrain="somewhere")
    with pytest.raises(ValueError, match=r"unknown model argument 'pretrain'; did you mean 'pretrained'\?"):
        JaxLM.create_from_arg_string("pretrain=somewhere")


def test_model_in_a_subfolder(evals, tmp_path):
    (tmp_path / "inner").symlink_to(evals / "parity" / "tiny-gpt2")
    lm = JaxLM.create_from_arg_string(
        f"pretrained={tmp_path},subfolder=inner,trust_remote_code=True,dtype=bf16,revision=v2"
    )
    assert lm.tokenizer.vocab_size == 50257
    assert lm.max_length == 512
    assert lm.get_model_info()["model_dtype"] == "bfloat16"
    assert lm.get_model_info()["model_revision"] == "v2"
    with pytest.raises(ValueError, match=r"pretrained must be a directory .*outer' is not a directory"):
        JaxLM(pretrained=str(tmp_path), subfolder="outer")


def test_logits_cache_false_scores_each_continuation_at_its_own_positions():
    """HFLM reads a shorter continuation at other positions only because it caches logits."""
    pairs = [("abc", "xyz"), ("ab", "cxyz")]
    requests = [Instance("loglikelihood", {}, pair, at) for at, pair in enumerate(pairs)]
    together = byte_lm(logits_cache="false").loglikelihood(requests)
    alone = [byte_lm().loglikelihood([request])[0] for request in requests]
    assert [total for total, _ in together] == pytest.approx([total for total, _ in alone], abs=1e-4)
    assert byte_lm().loglikelihood(requests)[0][0] != pytest.approx(alone[0][0], abs=1e-2)


def test_arguments_reach_the_chat_template():
    lm = byte_lm(enable_thinking="False", chat_template_args={"date": "today"})
    assert lm.apply_chat_template([{"role": "user", "content": "Hi"}]) == "Hi|False|today|"
    lm = byte_lm(chat_template_args='{"date": "today", "enable_thinking": true}')
    assert lm.apply_chat_template([{"role": "user", "content": "Hi"}]) == "Hi|True|today|"
    with pytest.raises(
        ValueError, match="chat_template_args must be a mapping or a JSON object, not 'today'"
    ):
        byte_lm(chat_template_args="today")


def test_enable_thinking_needs_an_end_token_and_excludes_likelihoods():
    with pytest.raises(ValueError, match="enable_thinking needs think_end_token"):
        byte_lm(enable_thinking=True)
    lm = byte_lm(enable_thinking=True, think_end_token="200")
    request = Instance("loglikelihood", {}, ("a", "b"), 0, ("animals", 3, 1))
    with pytest.raises(
        ValueError, match=r"enable_thinking=True only works for tasks that generate .*: animals"
    ):
        lm.loglikelihood([request])


def counting_lm(**arguments):
    """A model that continues each byte with the next one."""

    def apply(params, tokens, positions, segment_ids):
        return jax.nn.one_hot((tokens + 1) % 256, 256) + params

    model = windrow.LanguageModel(jnp.zeros(()), apply, max_length=64)
    return JaxLM(model, ChatTokenizer(), prefix_token_id=0, **arguments)


@pytest.mark.parametrize(
    ("end", "until", "expected"),
    [
        (None, [], "bcdefghi"),
        ("d", [], "efghi"),
        (ord("d"), [], "efghi"),
        (str(ord("d")), [], "efghi"),
        ("z", [], "bcdefghi"),
        ("d", ["g"], "ef"),
        ("e", ["d"], "bc"),  # the stop string ends the text before the thinking ends
        ("de", ["f", "i"], ""),
    ],
)
def test_thinking_is_removed_from_texts(end, until, expected):
    lm = counting_lm(think_end_token=end)
    request = Instance("generate_until", {}, ("a", {"until": until, "max_gen_toks": 8}), 0)
    assert lm.generate_until([request]) == [expected]


def test_leading_white_space_of_answers_is_removed():
    """As in HFLM: an answer starts after the last end token, and is stripped even if there is none."""

    def decode(tokens):
        return bytes(tokens).decode()

    assert read_answer(list(b" a. b. c"), decode, ".") == "c"
    assert read_answer(list(b" a. b. c"), decode, ord(".")) == "c"
    assert read_answer(list(b" a"), decode, ".") == "a"
    assert read_answer(list(b" a"), decode, ord(".")) == "a"
    assert read_answer(list(b" a"), decode, None) == " a"
    assert read_answer(list(b" a"), decode, "") == " a"


# HFLM's information on each model: lm_eval 0.4.13, transformers 5.24, dtype="float32", batch_size=1.
RESULTS = {
    "tiny-llama": (1787008, 256, ("<s>", 0), ("</s>", 1), ("<pad>", 2)),
    "tiny-gpt2": (3349312, 512, *[("<|endoftext|>", 50256)] * 3),
    "tiny-mamba": (745344, 2048, ("<s>", 0), ("</s>", 1), ("<pad>", 2)),
}


@pytest.mark.parametrize("name", quick(RESULTS, ["tiny-llama"]))
def test_model_information_matches_the_reference(evals, name):
    size, length, *tokens = RESULTS[name]
    results = simple_evaluate(
        "windrow",
        model_args={"pretrained": str(evals / "parity" / name), "tokens_per_batch": 2048},
        tasks=["local_arc_easy"],
        task_manager=TaskManager(include_path=str(evals / "tasks"), include_defaults=False),
        limit=2,
        bootstrap_iters=0,
    )
    for role, (text, number) in zip(("bos", "eos", "pad"), tokens, strict=True):
        assert results[f"tokenizer_{role}_token"] == [text, str(number)]
    assert (results["eot_token_id"], results["max_length"]) == (tokens[1][1], length)
    config = results["config"]
    assert (config["model_num_parameters"], config["model_dtype"]) == (size, "float32")
    assert (config["model_revision"], config["model_sha"]) == ("main", "")
    rows = config["batch_sizes"]
    assert rows
    assert all(isinstance(each, int) and each % jax.device_count() == 0 for each in rows)


def test_given_batch_sizes_are_not_recorded():
    """HFLM records only the batch sizes that it found itself."""
    lm = byte_lm(batch_size=16)
    lm.loglikelihood([Instance("loglikelihood", {}, ("a", "b"), 0)])
    assert lm.batch_sizes == {}


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (None, " of the number of ma"),
        exhaustive(434, "of ma"),
        ("434", "of ma"),
        exhaustive("the", "number of ma"),
        exhaustive("zzz", "of the number of ma"),
        exhaustive(4000, "of the number of ma"),
    ],
)
def test_answers_match_the_reference(evals, end, expected):
    """Compared with the texts of lm_eval 0.4.13's HFLM with this ``think_end_token``."""
    lm = JaxLM(pretrained=str(evals / "parity" / "tiny-llama"), think_end_token=end, batch_size=8)
    keywords = {"until": ["\n\n\n"], "max_gen_toks": 12}
    assert lm.generate_until([Instance("generate_until", {}, ("The cow", keywords), 0)]) == [expected]


def test_head_with_tied_embedding_scores_as_in_the_reference(evals, tmp_path):
    """HFLM of lm_eval 0.4.13 scores with the embedding and ignores the head in the file."""
    source = evals / "parity" / "tiny-llama"
    for file in source.iterdir():
        if file.suffix != ".safetensors" and file.name != "config.json":
            (tmp_path / file.name).symlink_to(file.resolve())
    config = json.loads((source / "config.json").read_text()) | {"tie_word_embeddings": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    tensors = load_file(source / "model.safetensors")
    tensors["lm_head.weight"] = np.roll(tensors["model.embed_tokens.weight"], 1, axis=0)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.warns(UserWarning, match="the embedding is used for both, as in lm_eval"):
        lm = JaxLM(pretrained=str(tmp_path))
    pairs = [("The cow", " eats grass"), ("A", " b")]
    results = lm.loglikelihood([Instance("loglikelihood", {}, pair, 0) for pair in pairs])
    assert [total for total, _ in results] == pytest.approx([-25.905754, -8.660360], abs=1e-3)

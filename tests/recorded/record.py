"""Records the results of lm_eval's own Hugging Face backend for a small model; run by ``make parity``.

It needs a separate environment with torch, transformers and lm_eval. The model has
memorized a few sayings, so some requests are greedy and others are not. test_recorded.py
loads it and compares results.
"""

import json
import shutil
from importlib.metadata import version
from pathlib import Path

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

FOLDER = Path(__file__).parent
MODEL = FOLDER / "model"
MAX_LENGTH = 48

SAYINGS = [
    "Make hay while the sun shines.",
    "Still waters run deep, and the devil takes the hindmost.",
    "A stitch in time saves nine; a watched pot never boils.",
    "Wer zuletzt lacht, lacht am besten: Grüße aus Köln!",
    "急がば回れ。七転び八起き。",
    "def add(a, b):\n    return a + b\n\n\nprint(add(2, 3))  # 5",
    "The quick brown fox jumps over the lazy dog 1234567890 times.",
]

ODD_PAIRS = [
    ("", " hay"),
    ("Make hay ", "while"),
    ("Make hay  \n", " while the sun"),
    ("Question: 2 + 2 =", " 4"),
    ("Question: 2 + 2 =", " 5"),
    ("Question: 2 + 2 =", " 4 or 5"),
    ("emoji 🎉 and", " ü"),
    ("long " * 60, "end"),
    ("The same context", " and a much longer continuation than the others have"),
]

STOPS = [["."], ["\n\n", "e"], ["never seen"], ["", "."]]


def pairs() -> list[tuple[str, str]]:
    """Each saying, cut at several places, and unusual requests."""
    cut = [(text[:at], text[at:]) for text in SAYINGS for at in (1, len(text) // 3, len(text) // 2, -2)]
    return [*cut, *ODD_PAIRS]


def make_model() -> None:
    """A Llama with grouped queries and a byte-level tokenizer with BOS, both from a fixed seed."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SAYINGS * 2, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", model_max_length=MAX_LENGTH
    ).save_pretrained(MODEL)
    torch.set_num_threads(1)  # more threads would slow down so small a model
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=MAX_LENGTH,
        initializer_range=0.1,
        bos_token_id=0,
        eos_token_id=1,
    )
    model = LlamaForCausalLM(config)
    learn(model, [[0, *tokenizer.encode(text).ids][:MAX_LENGTH] for text in SAYINGS])
    model.save_pretrained(MODEL)


def learn(model: LlamaForCausalLM, texts: list[list[int]]) -> None:
    """Trains until the model knows the texts, but not with certainty."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(120):
        for tokens in texts:
            batch = torch.tensor([tokens])
            model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def recorded() -> dict:
    """Every request with its result."""
    lm = HFLM(pretrained=str(MODEL), dtype="float32", device="cpu", batch_size=4)

    def ask(request_type: str, arguments: list[tuple]) -> list:
        requests = [Instance(request_type, {}, each, index) for index, each in enumerate(arguments)]
        return [
            [*each, result]
            for each, result in zip(arguments, getattr(lm, request_type)(requests), strict=True)
        ]

    texts = [(text,) for text in [*SAYINGS, " ".join(SAYINGS), ""]]
    prompts = [(text[:12], {"until": stops, "max_gen_toks": 12}) for text in SAYINGS for stops in STOPS] + [
        ("long " * 60, {"until": ["."], "max_gen_toks": 20})
    ]
    return {
        "versions": {name: version(name) for name in ("torch", "transformers", "lm_eval")},
        "loglikelihood": ask("loglikelihood", pairs()),
        "loglikelihood_rolling": ask("loglikelihood_rolling", texts),
        "generate_until": ask("generate_until", prompts),
    }


if __name__ == "__main__":
    shutil.rmtree(MODEL, ignore_errors=True)
    make_model()
    text = json.dumps(recorded(), indent=1, ensure_ascii=False)
    (FOLDER / "results.json").write_text(text + "\n")

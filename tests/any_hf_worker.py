"""Runs models through examples/any_hf.py, in a separate process with torch, and prints the results."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))

import torch
from lm_eval.api.instance import Instance
from transformers import AutoConfig, AutoModelForCausalLM

import any_hf
from sayings import END, SAYINGS, VOCABULARY, byte_tokenizer
from windrow import JaxLM

SIZES = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "bos_token_id": END, "eos_token_id": END, "pad_token_id": None,
}  # fmt: skip
GROUPED = SIZES | {"intermediate_size": 64, "num_key_value_heads": 2, "max_position_embeddings": 512}
CONFIGS = {
    "opt": SIZES | {"ffn_dim": 64, "max_position_embeddings": 512, "word_embed_proj_dim": 32},
    "falcon": SIZES | {"alibi": True, "new_decoder_architecture": False},
    "cohere2": GROUPED
    | {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"], "logit_scale": 0.3},
    "gpt_oss": GROUPED
    | {"sliding_window": 8, "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2}
    | {"layer_types": ["sliding_attention", "full_attention"], "rope_parameters": {"rope_type": "default"}},
    "bamba": GROUPED
    | {"attn_layer_indices": [1], "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1}
    | {"mamba_d_state": 8, "mamba_chunk_size": 8},
}
"""Models that ``pretrained=`` cannot load."""


def tiny(kind, folder):
    """A byte-level checkpoint with random weights, large enough to distinguish models."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **CONFIGS[kind])).float()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(0, 0.2)
    model.save_pretrained(folder)
    byte_tokenizer().save(str(Path(folder) / "tokenizer.json"))


def own_results(folder, pairs):
    """Log-likelihoods and greedy flags from PyTorch, one pair at a time."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer, found = byte_tokenizer(), []
    for context, continuation in pairs:
        before, whole = (tokenizer.encode(text).ids for text in (context, context + continuation))
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([whole[:-1]])).logits[0, len(before) - 1 :]
        targets = torch.tensor(whole[len(before) :])
        logprobs = logits.float().log_softmax(-1)
        best = bool((logits.argmax(-1) == targets).all())
        found.append((logprobs.gather(1, targets[:, None]).sum().item(), best))
    return found


def through_factory(folder, requests):
    """The model that ``factory=`` makes from a folder: its parts and its results for some requests."""
    os.environ["ANY_HF_MODEL"] = str(folder)
    lm = JaxLM(factory="any_hf:make_model")
    results = {
        kind: getattr(lm, kind)([Instance(kind, {}, tuple(args), 0) for args in of_kind])
        for kind, of_kind in requests.items()
    }
    parts = [name for name in ("hidden", "step") if getattr(lm.model, name)]
    return {"parts": parts + ["reach"] * lm.model.takes_reach, "results": results}


def other(kind):
    """A model that ``pretrained=`` cannot load, compared with PyTorch."""
    pairs = [(start, f" {end}") for start, _ in SAYINGS[:4] for _, end in SAYINGS[:3]]
    prompts = [(start, {"max_gen_toks": 8, "until": []}) for start, _ in SAYINGS[:3]]
    with TemporaryDirectory() as folder:
        tiny(kind, folder)
        made = through_factory(folder, {"loglikelihood": pairs, "generate_until": prompts})
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        texts = []
        for prompt, _ in prompts:
            ids = torch.tensor([byte_tokenizer().encode(prompt).ids])
            for _ in range(8):
                best = model(input_ids=ids).logits[0, -1].argmax()
                ids = torch.cat([ids, best[None, None]], dim=1)
                if best == END:
                    break
            texts.append(byte_tokenizer().decode(ids[0, len(prompt.encode()) :].tolist()))
        return made | {"own": {"loglikelihood": own_results(folder, pairs), "generate_until": texts}}


def wrong():
    """The parts that are admitted of models whose parts differ from PyTorch."""
    with TemporaryDirectory() as folder:
        tiny("opt", folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    made = any_hf.language_model(model, 512)

    def admitted(**parts):
        try:
            found, gaps = any_hf.admit(model, replace(made, **parts))
        except ValueError as error:
            return str(error)
        kept = [name for name in ("hidden", "head", "init_state", "step") if getattr(found, name)]
        return kept + ["reach"] * found.takes_reach, gaps

    def fails(*_):
        raise RuntimeError("an operator that is missing\nand more")

    def no_trees(params, tokens, positions, segment_ids, reach=None):
        return made.hidden(params, tokens, positions, segment_ids)

    return {
        "right": admitted(),
        "apply": admitted(apply=lambda *batch: made.apply(*batch) * 1.01),
        "apply fails": admitted(apply=fails),
        "head": admitted(head=lambda params, picked: made.head(params, picked) + 0.1),
        "step": admitted(step=lambda *given: (made.step(*given)[0], made.step(*given)[1] * 1.1)),
        "trees": admitted(hidden=no_trees),
    }


def main():
    job, *arguments = json.loads(sys.argv[1])
    jobs = {"other": other, "wrong": wrong, "known": lambda *given: through_factory(given[0], given[1])}
    print(json.dumps(jobs[job](*arguments)))


if __name__ == "__main__":
    main()

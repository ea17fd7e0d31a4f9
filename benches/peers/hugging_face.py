"""Tiny random models made by `transformers`, and the way back: our directories read by `transformers`.

    pip install torch transformers safetensors numpy
    python benches/peers/hugging_face.py fixtures          # writes tests/data/hugging_face
    python benches/peers/hugging_face.py check target/debug/skald
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.numpy import save_file

SHAPE = {"hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 2, "max_position_embeddings": 16}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
PLAIN = {"bos_token_id": 1, "eos_token_id": 2, "use_cache": False}


def llama(vocab, **more):
    more = {"tie_word_embeddings": False} | more
    return transformers.LlamaConfig(vocab_size=vocab, rms_norm_eps=1e-5, **SHAPE, **HEADS, **PLAIN, **more)


def smollm2(vocab):
    # Three query heads to each key, tied, as in SmolLM2-135M.
    shape = SHAPE | {"hidden_size": 24}
    heads = {"num_attention_heads": 6, "num_key_value_heads": 2}
    return transformers.LlamaConfig(vocab_size=vocab, tie_word_embeddings=True, **shape, **heads, **PLAIN)


def qwen2(vocab):
    return transformers.Qwen2Config(vocab_size=vocab, tie_word_embeddings=True, **SHAPE, **HEADS, **PLAIN)


def qwen3(vocab):
    # A head's width is free here.
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 6}
    return transformers.Qwen3Config(vocab_size=vocab, tie_word_embeddings=False, **SHAPE, **heads, **PLAIN)


def gpt2(vocab):
    sizes = {"n_embd": 16, "n_inner": 24, "n_layer": 2, "n_head": 4, "n_positions": 16}
    drop = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return transformers.GPT2Config(vocab_size=vocab, **sizes, **drop, **PLAIN)


def randomize(model, bias=True, seed=7):
    """Weights large enough that every part of the model shows in the logits."""
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            random = torch.randn(value.shape, generator=noise)
            if "bias" in name:
                value.copy_(0.2 * random if bias else torch.zeros_like(value))
            elif value.dim() == 1:
                value.copy_(1 + 0.2 * random)
            else:
                value.copy_(0.4 * random)


GPT2_NAMES = {
    "transformer.wte": "model.embed_tokens",
    "transformer.wpe": "model.embed_positions",
    "transformer.ln_f": "model.norm",
    "ln_1": "input_layernorm",
    "ln_2": "post_attention_layernorm",
    "attn.c_proj": "self_attn.o_proj",
    "mlp.c_fc": "mlp.up_proj",
    "mlp.c_proj": "mlp.down_proj",
}


def to_ours(config, tensors, bias=True):
    """Tensors by the names of `transformers` -> arrays by ours."""
    if config.model_type != "gpt2":
        return {name: value.float().numpy() for name, value in tensors.items()}
    ours = {}
    for name, value in tensors.items():
        module, kind = name.rsplit(".", 1)
        if kind == "bias" and not bias:
            continue
        where, part = "", module
        if module.startswith("transformer.h."):
            layer, part = module.removeprefix("transformer.h.").split(".", 1)
            where = f"model.layers.{layer}."
        # Its linear layers hold their weights as [in, out].
        turned = value.T if part.startswith(("attn.", "mlp.")) and kind == "weight" else value
        if part == "attn.c_attn":
            for name, piece in zip("qkv", turned.chunk(3)):
                ours[f"{where}self_attn.{name}_proj.{kind}"] = piece.float().numpy()
        else:
            ours[f"{where}{GPT2_NAMES.get(part, part)}.{kind}"] = turned.float().numpy()
    return ours


VOCAB = 29
IDS = [3, 14, 15, 9, 26, 5, 3, 5, 8, 9, 7, 28]
FIXTURES = Path(__file__).parents[2] / "tests/data/hugging_face"


def models():
    """Name, config, and what is special about how it is saved."""
    return [
        ("llama", llama(VOCAB), {}),
        ("llama_biases", llama(VOCAB, attention_bias=True, mlp_bias=True), {}),
        ("llama_sharded", llama(VOCAB, tie_word_embeddings=True), {"max_shard_size": "8kB"}),
        ("smollm2", smollm2(VOCAB), {}),
        ("qwen2_bf16", qwen2(VOCAB), {"dtype": torch.bfloat16}),
        ("qwen3", qwen3(VOCAB), {}),
        ("gpt2", gpt2(VOCAB), {}),
        ("gpt2_bare", gpt2(VOCAB), {"bare": True}),
    ]


def logits_of(model, ids):
    with torch.no_grad():
        return model.eval().float()(torch.tensor([ids])).logits[0]


def fixtures():
    for name, config, saved in models():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        randomize(model)
        model.to(saved.get("dtype", torch.float32))
        to = FIXTURES / name
        shutil.rmtree(to, ignore_errors=True)
        part = model.transformer if saved.get("bare") else model
        part.save_pretrained(to, max_shard_size=saved.get("max_shard_size", "1GB"))
        (to / "generation_config.json").unlink(missing_ok=True)
        expected = {"ids": np.array(IDS, np.uint32), "logits": logits_of(model, IDS).numpy()}
        save_file(expected, to / "expected.safetensors")
        print(name, sum(file.stat().st_size for file in to.iterdir()), "bytes")


def skald(binary, *args):
    done = subprocess.run([binary, "model", *args, "--json"], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    return json.loads(done.stdout)


def check(binary):
    """Our logits and greedy tokens against PyTorch's, and what we convert against the original."""
    for name, _, saved in models():
        source = FIXTURES / name
        if saved.get("bare"):
            model = transformers.GPT2LMHeadModel.from_pretrained(source, dtype=torch.float32)
        else:
            model = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
        expected = logits_of(model, IDS)
        report(name, source, binary, model, expected)
        with tempfile.TemporaryDirectory() as to:
            skald(binary, "convert", "--model", str(source), "--to", "hf", "--out", to)
            back, loading = transformers.AutoModelForCausalLM.from_pretrained(
                to, dtype=torch.float32, output_loading_info=True
            )
            assert not any(loading.values()), loading
            difference = (logits_of(back, IDS) - expected).abs().max().item()
            print(f"{name}: converted, transformers is {difference:.1e} away")
            assert difference == 0, "a conversion changes nothing"
    without_biases(binary)


def report(name, source, binary, model, expected):
    try:
        ours = skald(binary, "logits", "--model", str(source), "--tokens", ",".join(map(str, IDS[:8])), "--greedy", "4")
    except RuntimeError as error:
        print(f"{name}: no logits: {error}")
        return
    difference = (torch.tensor(ours["logits"]) - expected[7]).abs().max().item()
    ids = list(IDS[:8])
    for _ in range(4):
        ids.append(logits_of(model, ids)[-1].argmax().item())
    print(f"{name}: logits are {difference:.1e} away, greedy {ours['greedy']}")
    assert difference < 1e-4 and ours["greedy"] == ids[8:], ids[8:]


def without_biases(binary):
    """A GPT-2 as nanoGPT trains it with `bias=False` is written with biases of zero."""
    config = gpt2(VOCAB)
    model = transformers.GPT2LMHeadModel(config)
    randomize(model, bias=False)
    with tempfile.TemporaryDirectory() as source, tempfile.TemporaryDirectory() as to:
        model.save_pretrained(source)
        path = Path(source) / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"skald_bias": False}))
        skald(binary, "convert", "--model", source, "--to", "hf", "--out", to)
        back, loading = transformers.GPT2LMHeadModel.from_pretrained(to, output_loading_info=True)
        assert not any(loading.values()), loading
        difference = (logits_of(back, IDS) - logits_of(model, IDS)).abs().max().item()
        print(f"gpt2 without biases: converted, transformers is {difference:.1e} away")
        assert difference == 0
        assert json.loads((Path(to) / "config.json").read_text())["skald_bias"] is False


if __name__ == "__main__":
    if sys.argv[1:2] == ["fixtures"]:
        fixtures()
    elif sys.argv[1:2] == ["check"] and len(sys.argv) == 3:
        check(sys.argv[2])
    else:
        sys.exit(__doc__)

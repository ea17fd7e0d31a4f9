"""Our GGUF files beside `transformers`, the `gguf` package and (where it is installed) llama.cpp.

    pip install torch transformers gguf [llama-cpp-python]
    python benches/peers/gguf_models.py target/debug/skald

Tiny random models are saved by `transformers` and converted by us; what comes out must give the same logits.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SKALD = str(Path(sys.argv[1]).resolve())
SHAPE = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "max_position_embeddings": 256}
WIDE = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "max_position_embeddings": 256}
GQA = {"num_attention_heads": 4, "num_key_value_heads": 2}
ALL = {"num_attention_heads": 4, "num_key_value_heads": 4}
TOKENS = [1, 5, 9, 30, 2, 200, 77, 31, 8, 100] * 4
llama, qwen2, qwen3 = transformers.LlamaConfig, transformers.Qwen2Config, transformers.Qwen3Config
THETA = {"rope_theta": 10000.0}
LLAMA3 = {**THETA, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
MODELS = {
    "llama": llama(**SHAPE, **GQA, tie_word_embeddings=False),
    "llama_no_gqa_tied": llama(**SHAPE, **ALL, tie_word_embeddings=True),
    "llama_biases": llama(**SHAPE, **GQA, attention_bias=True, mlp_bias=True),
    "llama_linear": llama(**SHAPE, **GQA, rope_parameters={**THETA, "rope_type": "linear", "factor": 2.0}),
    "llama3": llama(**SHAPE, **GQA, rope_parameters={**LLAMA3, "original_max_position_embeddings": 64}),
    "llama3_usual": llama(**SHAPE, **GQA, rope_parameters={**LLAMA3, "original_max_position_embeddings": 8192}),
    "qwen2": qwen2(**SHAPE, **GQA, tie_word_embeddings=True),
    "qwen2_yarn": qwen2(**SHAPE, **GQA, rope_parameters={
        **THETA, "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}),
    "qwen3": qwen3(**SHAPE, **GQA, head_dim=32, tie_word_embeddings=False),
    "llama_wide": llama(**WIDE, **GQA, tie_word_embeddings=True),
    "qwen3_wide": qwen3(**WIDE, **GQA, head_dim=64, tie_word_embeddings=False),
}


def skald(*args):
    done = subprocess.run([SKALD, "--json", "model", *map(str, args)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{args}: {done.stderr}")
    return json.loads(done.stdout)


def logits(path):
    return np.array(skald("logits", "--model", path, "--tokens", ",".join(map(str, TOKENS)))["logits"])


def transformers_logits(path):
    model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    with torch.no_grad():
        return model(torch.tensor([TOKENS])).logits[0, -1].double().numpy()


def llama_cpp_logits(path):
    try:
        import llama_cpp
    except ImportError:
        return None
    model = llama_cpp.Llama(str(path), n_ctx=256, logits_all=True, verbose=False)
    model.eval(TOKENS)
    return np.array(model.scores[len(TOKENS) - 1], dtype=np.float64)


def off(ours, theirs):
    return float(np.abs(ours - theirs).max()), float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def tokenizer(vocab):
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(["the old road goes to the mill"] * 3, trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=["<pad>", "<s>", "</s>"], show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        chat_template="{% for m in messages %}{{ m['content'] }}{% endfor %}")


failed = False
with tempfile.TemporaryDirectory() as scratch:
    for name, config in MODELS.items():
        torch.manual_seed(1)
        config.vocab_size = 288
        model = transformers.AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for key, value in model.named_parameters():
                # Norms and biases that do something.
                value.copy_(torch.randn_like(value) * 0.03 + (1.0 if "norm" in key else 0.0))
        source = Path(scratch) / name
        model.save_pretrained(source)
        tokenizer(280).save_pretrained(source)
        expected = transformers_logits(source)
        # Blocks are ggml's to the bit; random weights are the hardest to round.
        for kind, most in [("f32", 1e-4), ("f16", 2e-2), ("q8_0", 3e-2), ("q4_0", 0.5), ("q4_k_m", 0.5)]:
            file = Path(scratch) / f"{name}-{kind}.gguf"
            skald("quantize", "--model", source, "--type", kind, "--out", file)
            largest, relative = off(logits(file), expected)
            reader = gguf.GGUFReader(file)
            sums = [gguf.quants.dequantize(t.data, t.tensor_type).sum() for t in reader.tensors]
            good = np.isfinite(sums).all() and (largest if kind == "f32" else relative) < most
            line = {"model": name, "type": kind, "largest": largest, "relative": relative}
            theirs = llama_cpp_logits(file)
            if theirs is not None:
                line["llama_cpp_relative"] = off(logits(file), theirs)[1]
                # llama.cpp rounds activations, too.
                good &= line["llama_cpp_relative"] < (5e-3 if kind in ["f32", "f16"] else 0.1)
            if kind == "f32":
                back = Path(scratch) / f"{name}-back"
                skald("convert", "--model", file, "--to", "hf", "--out", back)
                line["back_in_transformers"] = off(transformers_logits(back), expected)[0]
                good &= line["back_in_transformers"] < 1e-4
                again = transformers.AutoTokenizer.from_pretrained(back)
                text = "the old mill, 12!"
                good &= again.encode(text) == tokenizer(280).encode(text)
            failed |= not good
            print(json.dumps(line), "" if good else "FAILED", flush=True)
sys.exit(failed)

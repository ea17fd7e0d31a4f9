"""Our quantized files beside llama.cpp's of the same model: the types it chooses, its bytes, its errors.

    pip install torch transformers gguf llama-cpp-python
    python benches/peers/gguf_quantize.py target/debug/skald
"""

import ctypes
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import llama_cpp
import torch
import transformers

SKALD = str(Path(sys.argv[1]).resolve())
FILE_TYPES = {"q4_0": 2, "q8_0": 7, "q4_k_m": 15}


def ours(source, kind, file):
    command = [SKALD, "model", "quantize", "--model", source, "--type", kind, "--out", file]
    subprocess.run(command, check=True, capture_output=True)


def theirs(source, kind, file):
    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype, options.nthread = FILE_TYPES[kind], 1
    assert llama_cpp.llama_model_quantize(str(source).encode(), str(file).encode(), ctypes.byref(options)) == 0


def tensors(file):
    return {tensor.name: tensor for tensor in gguf.GGUFReader(file).tensors}


def values(tensor):
    return gguf.quants.dequantize(tensor.data, tensor.tensor_type).ravel()


for tied in [True, False]:
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(transformers.LlamaConfig(
        vocab_size=288, hidden_size=256, intermediate_size=768, num_hidden_layers=10, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, tie_word_embeddings=tied))
    with tempfile.TemporaryDirectory() as scratch:
        at = Path(scratch)
        model.save_pretrained(at / "model")
        ours(at / "model", "f32", at / "f32.gguf")
        exact = tensors(at / "f32.gguf")
        for kind in FILE_TYPES:
            ours(at / "model", kind, at / f"ours-{kind}.gguf")
            theirs(at / "f32.gguf", kind, at / f"theirs-{kind}.gguf")
            a, b = tensors(at / f"ours-{kind}.gguf"), tensors(at / f"theirs-{kind}.gguf")
            assert all(a[name].tensor_type == b[name].tensor_type for name in exact)
            same = sum(a[name].data.tobytes() == b[name].data.tobytes() for name in exact)
            ratios = {}
            for name, tensor in exact.items():
                errors = [float(((values(side[name]) - values(tensor)) ** 2).mean() ** 0.5) for side in (a, b)]
                if errors[1]:
                    ratios.setdefault(b[name].tensor_type.name, []).append(errors[0] / errors[1])
            ratios = {name: [round(min(all), 4), round(max(all), 4)] for name, all in ratios.items()}
            print(f"tied {tied}, {kind}: {same} of {len(exact)} tensors equal, error over theirs {ratios}")

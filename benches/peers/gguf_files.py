"""GGUF beside the `gguf` package (pip install gguf).

    python benches/peers/gguf_files.py blocks      # writes tests/data/gguf/blocks.gguf
    python benches/peers/gguf_files.py read F      # reads a file as llama.cpp's own tools do, prints what is in it
"""
import json
import pathlib
import sys

import gguf
import numpy as np

DATA = pathlib.Path(__file__).resolve().parents[2] / "tests" / "data" / "gguf"
ROUNDED = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]
KINDS = [*ROUNDED, "Q4_K", "Q5_K", "Q6_K"]


def values(noise):
    """Rows that matter: normal, of one sign, tiny, ties in size, ties in rounding, zero, with outliers, large."""
    x = noise.standard_normal((16, 32)).astype(np.float32)
    x[1] = np.abs(x[1])
    x[2] *= 1e-6
    x[3, :] = np.where(np.arange(32) % 2 == 0, 1.5, -1.5)
    x[4] = (np.arange(32) - 16) / 2
    x[5] = 0
    x[6, 7] = -40
    x[7] *= 1000
    x[8] = -np.abs(x[8])
    x[9] = 3.25
    return x.reshape(1, 512)


def blocks():
    noise = np.random.default_rng(7)
    writer = gguf.GGUFWriter(DATA / "blocks.gguf", "test")
    writer.add_array("list", [1, 2, 3])
    writer.add_array("texts", ["\u00e9", "b"])
    x = values(noise)
    writer.add_tensor("values", x)
    for name in KINDS:
        kind = gguf.GGMLQuantizationType[name]
        if name in ROUNDED:
            stored = gguf.quants.quantize(x, kind)
        else:
            count, size = gguf.GGML_QUANT_SIZES[kind]
            stored = noise.integers(0, 256, (1, 512 // count * size), dtype=np.uint8)
            # Any bytes are a block, but for the scales in half precision: finite, please.
            scales = np.float16(noise.uniform(0.001, 0.1, (512 // count, 2))).view(np.uint8)
            each = stored.reshape(512 // count, size)
            if name == "Q6_K":
                each[:, -2:] = scales[:, :2]
            else:
                each[:, :4] = scales
        writer.add_tensor(name, stored, raw_dtype=kind)
        writer.add_tensor(f"{name}.values", gguf.quants.dequantize(stored, kind))
    for name in ["F16", "BF16"]:
        kind = gguf.GGMLQuantizationType[name]
        writer.add_tensor(name, gguf.quants.quantize(x, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read(path):
    reader = gguf.GGUFReader(path)
    keys = {name: field.types[0].name for name, field in reader.fields.items()}
    tensors = {}
    for tensor in reader.tensors:
        sums = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float64)
        tensors[tensor.name] = [tensor.tensor_type.name, [int(n) for n in reversed(tensor.shape)], float(sums.sum())]
    print(json.dumps({"keys": keys, "tensors": tensors}))


if __name__ == "__main__":
    DATA.mkdir(parents=True, exist_ok=True)
    {"blocks": blocks, "read": read}[sys.argv[1]](*sys.argv[2:])

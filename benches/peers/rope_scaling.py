"""The rotary frequencies of `transformers`, for each way to stretch them.

    pip install torch transformers
    python benches/peers/rope_scaling.py           # writes tests/data/rope_scaling.json
"""

import json
from pathlib import Path

import torch
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
SCALINGS = [
    {"rope_type": "linear", "factor": 2.5},
    {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192, **LLAMA3},
    {"rope_type": "llama3", "factor": 4.0, "original_max_position_embeddings": 64, **LLAMA3},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096, "truncate": False},
    {"rope_type": "yarn", "factor": 8.0, "attention_factor": 0.9, "beta_fast": 16.0, "beta_slow": 2.0,
     "original_max_position_embeddings": 256},
    {"rope_type": "yarn", "factor": 40.0, "mscale": 0.7, "mscale_all_dim": 1.0,
     "original_max_position_embeddings": 4096},
    {"rope_type": "longrope", "attention_factor": 1.0, "short_factor": [1.0] * 4 + [3.5] * 4,
     "long_factor": [1.0] * 4 + [3.5] * 4, "original_max_position_embeddings": 128},
]

cases = []
for scaling in SCALINGS:
    config = transformers.LlamaConfig(
        vocab_size=300, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=128, rope_parameters={"rope_theta": 10000.0, **scaling},
    )
    frequencies, factor = ROPE_INIT_FUNCTIONS[scaling["rope_type"]](config, torch.device("cpu"))
    config = json.loads(config.to_json_string(use_diff=False))
    keep = ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
            "max_position_embeddings", "rope_parameters", "rms_norm_eps", "model_type", "head_dim"]
    cases.append({
        "config": {key: config[key] for key in keep},
        "frequencies": frequencies.double().tolist(),
        "attention_factor": factor,
    })
path = Path(__file__).resolve().parents[2] / "tests" / "data" / "rope_scaling.json"
path.write_text(json.dumps(cases, indent=1) + "\n")

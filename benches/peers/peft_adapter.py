"""LoRA adapters made by `peft`, and ours loaded by `peft`.

    pip install torch transformers peft safetensors numpy
    python benches/peers/peft_adapter.py fixtures      # writes tests/data/hugging_face/peft_*
    SKALD_ADAPTERS=/tmp/adapters cargo test --no-default-features --lib -- --ignored adapters_for_peft
    python benches/peers/peft_adapter.py check /tmp/adapters

A fixture holds the adapter and `expected.safetensors`: the weights with it merged, by our names.
`check` reads folders with `base`, `adapter` and `merged`, and compares the base with the adapter to the merged model.
"""

import shutil
import sys
from pathlib import Path

import numpy as np
import peft
import torch
import transformers
from hugging_face import FIXTURES, IDS, logits_of, to_ours
from safetensors.numpy import save_file


def load(path):
    return transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)


def fixture(name, base, **options):
    model = load(FIXTURES / base)
    config = model.config
    # The same file on every machine.
    model.name_or_path = config.name_or_path = base
    options = {"r": 3, "lora_alpha": 5, "task_type": "CAUSAL_LM", "bias": "none"} | options
    adapted = peft.get_peft_model(model, peft.LoraConfig(**options))
    noise = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for key, value in adapted.named_parameters():
            if "lora_" in key:
                value.copy_(0.3 * torch.randn(value.shape, generator=noise))
    to = FIXTURES / name
    shutil.rmtree(to, ignore_errors=True)
    adapted.save_pretrained(to)
    (to / "README.md").unlink(missing_ok=True)
    before = logits_of(adapted, IDS)
    merged = adapted.merge_and_unload()
    difference = (logits_of(merged, IDS) - before).abs().max().item()
    tensors = {key: value.detach() for key, value in merged.named_parameters()}
    tensors = {key: np.ascontiguousarray(value) for key, value in to_ours(config, tensors).items()}
    save_file(tensors, to / "expected.safetensors")
    print(f"{name}: merged by peft, {difference:.1e} away from the adapter")


def fixtures():
    every = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    fixture("peft_llama", "llama", target_modules=every)
    fixture("peft_qwen3_rslora", "qwen3", target_modules=["q_proj", "v_proj"], use_rslora=True)
    fixture("peft_gpt2", "gpt2", target_modules=["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True)


def check(root):
    for folder in sorted(Path(root).iterdir()):
        adapted = peft.PeftModel.from_pretrained(load(folder / "base"), folder / "adapter")
        names = [key for key, _ in adapted.named_parameters() if "lora_" in key]
        ours, merged = logits_of(adapted, IDS), logits_of(load(folder / "merged"), IDS)
        plain = logits_of(load(folder / "base"), IDS)
        difference = (ours - merged).abs().max().item()
        effect = (merged - plain).abs().max().item()
        print(f"{folder.name}: {len(names)} tensors, {difference:.1e} away from the merged weights, {effect:.1f} from the base")
        assert difference < 1e-4 < effect


if __name__ == "__main__":
    if sys.argv[1:2] == ["fixtures"]:
        fixtures()
    elif sys.argv[1:2] == ["check"] and len(sys.argv) == 3:
        check(sys.argv[2])
    else:
        sys.exit(__doc__)

"""LoRA on a random-weight base in SmolLM2-135M's shape: does perplexity fall, is the adapter small, does `peft` agree?

    pip install torch transformers peft tokenizers safetensors
    python benches/peers/lora.py --skald target/release/skald --work /tmp/lora

Makes the base with `transformers`, a tokenizer and a text of the village's lines, runs `skald train text` with
assets/training/lora.ron, and compares peft's logits of base plus adapter with ours of the merged checkpoint.
"""

import argparse
import json
import math
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def village():
    """Held out is the text's last tenth, so voices take turns: one dialogue of each after the other."""
    files = [open(path, encoding="utf-8").read().splitlines() for path in sorted((ROOT / "assets/dialogue").glob("*.jsonl"))]
    lines = []
    for n in range(max(map(len, files))):
        for file in files:
            if n < len(file):
                turns = json.loads(file[n])["turns"]
                lines += [turn["says"] for turn in turns if turn["speaker"] == "npc"]
    return "\n".join(lines) + "\n"


def base(work, text):
    import tokenizers
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, max_position_embeddings=2048, tie_word_embeddings=True, rope_theta=100000.0,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(work / "base")
    tokenizer = tokenizers.ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(text.splitlines(), vocab_size=2000, show_progress=False)
    tokenizer.save(str(work / "base/tokenizer.json"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--skald", default="target/release/skald")
    parser.add_argument("--work", type=Path, default=Path("/tmp/lora"))
    parser.add_argument("--threads", default="0")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    text = village()
    (args.work / "village.txt").write_text(text, encoding="utf-8")
    if not (args.work / "base/config.json").exists():
        base(args.work, text)
    config = (ROOT / "assets/training/lora.ron").read_text().replace("out/base", str(args.work / "base"))
    (args.work / "lora.ron").write_text(config)
    out = args.work / "adapted"
    command = [args.skald, "train", "text", "--config", args.work / "lora.ron", "--data", args.work / "village.txt"]
    run = subprocess.run([*command, "--out", out, "--threads", args.threads, "--json"], check=True, capture_output=True, text=True)
    last = json.loads(run.stdout.splitlines()[-1])
    before, after = math.exp(last["first_val_loss"]), math.exp(last["best_val_loss"])
    size = sum(file.stat().st_size for file in (out / "adapter").iterdir())
    print(f"held-out perplexity {before:.1f} -> {after:.1f} ({100 * (after / before - 1):+.1f} %) in {last['steps']} steps, {last['seconds']:.0f} s")
    print(f"adapter: {size / 1e6:.2f} MB")

    import peft
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(args.work / "base", dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(model, out / "adapter").eval()
    ids = [5, 17, 300, 42, 1999, 7, 7, 1024]
    with torch.no_grad():
        theirs = model(torch.tensor([ids])).logits[0, -1]
    command = [args.skald, "model", "logits", "--model", out, "--tokens", ",".join(map(str, ids)), "--json"]
    ours = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["logits"]
    print(f"logits: {(theirs - torch.tensor(ours)).abs().max().item():.1e} from peft's (largest {theirs.abs().max().item():.2f})")


if __name__ == "__main__":
    main()

"""Greedy text of one GGUF file by llama.cpp and by us: how many of 50 prompts go on alike for 32 tokens.

    pip install llama-cpp-python
    python benches/peers/greedy.py --skald target/release/skald --model light-q8_0.gguf --data light_world.txt

`--model` should have learned something (`skald train text`, `skald model quantize`): of random weights many tokens are as
likely as each other, and the last bit decides. Prompts are the first eight words of lines spread over `--data`.
"""

import argparse
import json
import subprocess

import llama_cpp
import numpy as np

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--skald", required=True)
parser.add_argument("--model", required=True)
parser.add_argument("--data", required=True)
parser.add_argument("--prompts", type=int, default=50)
parser.add_argument("--tokens", type=int, default=32)
args = parser.parse_args()
lines = [line for line in open(args.data, encoding="utf-8").read().splitlines() if len(line.split()) > 12]
lines = lines[9 :: max(1, len(lines) // args.prompts)][: args.prompts]
model = llama_cpp.Llama(args.model, n_ctx=256, logits_all=True, verbose=False, type_k=0, type_v=0)
same = agree = total = 0
for line in lines:
    prompt = " ".join(line.split()[:8])
    ids = model.tokenize(prompt.encode(), add_bos=False, special=False)
    model.reset()
    model.eval(ids)
    theirs = []
    for _ in range(args.tokens):
        token = int(np.argmax(model.scores[model.n_tokens - 1]))
        theirs.append(token)
        model.eval([token])
    done = subprocess.run(
        [args.skald, "--json", "model", "logits", "--model", args.model, "--tokens", ",".join(map(str, ids)), "--greedy", str(args.tokens)],
        capture_output=True, text=True, check=True)
    ours = json.loads(done.stdout)["greedy"]
    same += ours == theirs
    alike = next((n for n, (a, b) in enumerate(zip(ours, theirs)) if a != b), args.tokens)
    agree += alike
    total += args.tokens
print(json.dumps({"model": args.model, "prompts": len(lines), "identical": same, "share": same / len(lines), "tokens_before_they_part": agree / total}))

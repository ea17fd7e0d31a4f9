"""nanoGPT's CPU configuration on tiny-shakespeare, in PyTorch, beside assets/training/nanogpt_cpu.ron.

    python benches/peers/nanogpt.py tinyshakespeare.txt [--seeds 1337 7 42] [--gelu exact|tanh] [--threads 1]

Block 64, batch 12, 4 layers, 4 heads, width 128, no biases, no dropout, AdamW (0.9, 0.99, decay 0.1 on matrices), 2,000
steps, learning rate 1e-3 to 1e-4 by a cosine after 100 steps of warm-up. The loss is in nats over every validation
position, in windows of 64 one after the other, as `skald train text` has it.
"""

import argparse
import json
import math

import torch
from torch import nn
from torch.nn import functional as F

WIDTH, LAYERS, HEADS, BLOCK, BATCH, STEPS = 128, 4, 4, 64, 12, 2000


class Block(nn.Module):
    def __init__(self, gelu):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, bias=False), nn.LayerNorm(WIDTH, bias=False)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)
        self.gelu = nn.GELU(approximate="none" if gelu == "exact" else "tanh")

    def forward(self, x):
        rows, length, _ = x.shape
        heads = lambda t: t.view(rows, length, HEADS, -1).transpose(1, 2)
        q, k, v = map(heads, self.qkv(self.norm1(x)).split(WIDTH, dim=2))
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(rows, length, WIDTH))
        return x + self.down(self.gelu(self.up(self.norm2(x))))


class Gpt(nn.Module):
    def __init__(self, vocab, gelu):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocab, WIDTH), nn.Embedding(BLOCK, WIDTH)
        self.blocks = nn.Sequential(*[Block(gelu) for _ in range(LAYERS)])
        self.norm = nn.LayerNorm(WIDTH, bias=False)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                residual = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * LAYERS) if residual else 0.02)

    def forward(self, ids):
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        return self.norm(self.blocks(x)) @ self.tokens.weight.T


def rate(step):
    if step < 100:
        return 1e-3 * (step + 1) / 101
    return 1e-4 + 0.5 * (1 + math.cos(math.pi * (step - 100) / (STEPS - 100))) * 9e-4


def train(train_ids, held_ids, vocab, seed, gelu):
    torch.manual_seed(seed)
    model = Gpt(vocab, gelu)
    groups = [[p for p in model.parameters() if (p.dim() >= 2) == two] for two in (True, False)]
    optimizer = torch.optim.AdamW(
        [{"params": groups[0], "weight_decay": 0.1}, {"params": groups[1], "weight_decay": 0.0}],
        lr=1e-3, betas=(0.9, 0.99))
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        at = torch.randint(len(train_ids) - BLOCK, (BATCH,))
        x = torch.stack([train_ids[i:i + BLOCK] for i in at])
        y = torch.stack([train_ids[i + 1:i + 1 + BLOCK] for i in at])
        loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    windows = (len(held_ids) - 1) // BLOCK
    x = held_ids[:windows * BLOCK].view(windows, BLOCK)
    y = held_ids[1:windows * BLOCK + 1].view(windows, BLOCK)
    with torch.no_grad():
        nats = [F.cross_entropy(model(a).flatten(0, 1), b.flatten(), reduction="sum").item()
                for a, b in zip(x.split(64), y.split(64))]
    return sum(nats) / y.numel()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("text")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1337])
    parser.add_argument("--gelu", choices=["exact", "tanh"], default="exact")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    text = open(options.text, encoding="utf-8").read()
    letters = {c: i for i, c in enumerate(sorted(set(text)))}
    ids = torch.tensor([letters[c] for c in text])
    cut = int(0.9 * len(ids))
    for seed in options.seeds:
        loss = train(ids[:cut], ids[cut:], len(letters), seed, options.gelu)
        print(json.dumps({"peer": "PyTorch", "gelu": options.gelu, "seed": seed, "val_loss": loss}), flush=True)


main()

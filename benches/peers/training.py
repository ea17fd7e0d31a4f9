"""What a training step costs, beside PyTorch on the same CPU, threads and shapes, in alternating runs.

    pip install torch numpy
    cargo build --release --no-default-features --features cli --bin skald
    python benches/peers/training.py --skald target/release/skald --threads 2 --rounds 3

PyTorch runs eagerly, with scaled_dot_product_attention and the fused AdamW; both sides do forward, backward, clipping and
update in f32 on random tokens. Each round is a new process on either side; the medians of the rounds are compared.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

SHAPES = {
    "small": dict(kind="gpt", vocab=65, width=128, layers=4, heads=4, inner=512, length=64, rows=12, bias=False),
    "medium": dict(kind="gpt", vocab=65, width=384, layers=6, heads=6, inner=1536, length=256, rows=16, bias=False),
    "lstm": dict(kind="lstm", vocab=65, width=256, layers=2, length=128, rows=32),
    "sasrec": dict(kind="gpt", vocab=3416, width=50, layers=2, heads=1, inner=50, length=200, rows=128, bias=True),
}


def model(shape):
    import torch
    from torch import nn
    from torch.nn import functional as F

    width = shape["width"]

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            bias = shape["bias"]
            self.n1, self.n2 = nn.LayerNorm(width, bias=bias), nn.LayerNorm(width, bias=bias)
            self.qkv, self.o = nn.Linear(width, 3 * width, bias=bias), nn.Linear(width, width, bias=bias)
            self.up, self.down = nn.Linear(width, shape["inner"], bias=bias), nn.Linear(shape["inner"], width, bias=bias)

        def forward(self, x):
            rows, length, _ = x.shape
            heads = lambda t: t.view(rows, length, shape["heads"], -1).transpose(1, 2)
            q, k, v = map(heads, self.qkv(self.n1(x)).split(width, dim=2))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.o(y.transpose(1, 2).reshape(rows, length, width))
            return x + self.down(F.gelu(self.up(self.n2(x)), approximate="tanh"))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens = nn.Embedding(shape["vocab"], width)
            if shape["kind"] == "lstm":
                self.body = nn.LSTM(width, width, num_layers=shape["layers"], batch_first=True)
            else:
                self.positions = nn.Embedding(shape["length"], width)
                self.body = nn.Sequential(*[Block() for _ in range(shape["layers"])])
                self.norm = nn.LayerNorm(width, bias=shape["bias"])

        def forward(self, ids):
            x = self.tokens(ids)
            if shape["kind"] == "lstm":
                x, _ = self.body(x)
            else:
                x = self.norm(self.body(x + self.positions(torch.arange(ids.shape[1]))))
            return x @ self.tokens.weight.T

    return Model()


def torch_side(shape, threads, steps):
    import torch
    from torch.nn import functional as F

    torch.set_num_threads(threads)
    net = model(shape)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1, fused=True)
    seconds = []
    for step in range(steps + 3):
        ids = torch.randint(0, shape["vocab"], (shape["rows"], shape["length"] + 1))
        begun = time.perf_counter()
        logits = net(ids[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        loss.item()
        if step >= 3:
            seconds.append(time.perf_counter() - begun)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"ms_per_step": 1e3 * statistics.median(seconds), "peak_rss_bytes": peak}))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--skald", default="target/release/skald")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--only", choices=SHAPES)
    parser.add_argument("--torch", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.torch:
        torch_side(SHAPES[args.torch], args.threads, args.steps)
        return
    configs = Path(__file__).parent / "configs"
    run = lambda command: json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(f"{'shape':8} {'ours ms':>9} {'torch ms':>9} {'ratio':>6} {'ours MiB':>9} {'torch MiB':>9}   ({args.threads} threads)")
    for name, shape in SHAPES.items():
        if args.only not in (None, name):
            continue
        ours, theirs = [], []
        for _ in range(args.rounds):
            command = [args.skald, "bench", "training", "--config", configs / f"{name}.ron", "--vocab", str(shape["vocab"])]
            ours.append(run(command + ["--steps", str(args.steps), "--threads", str(args.threads), "--json"]))
            again = [sys.executable, __file__, "--torch", name, "--threads", str(args.threads), "--steps", str(args.steps)]
            theirs.append(run(again))
        median = lambda side, key: statistics.median(each[key] for each in side)
        a, b = median(ours, "ms_per_step"), median(theirs, "ms_per_step")
        mib = lambda side: median(side, "peak_rss_bytes") / 2**20
        print(f"{name:8} {a:9.1f} {b:9.1f} {b / a:5.2f}x {mib(ours):9.0f} {mib(theirs):9.0f}", flush=True)


if __name__ == "__main__":
    main()

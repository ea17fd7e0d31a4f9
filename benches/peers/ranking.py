"""Ranking and probability figures of scikit-learn on random scores, many of them tied.

    pip install scikit-learn
    python benches/peers/ranking.py make > tests/data/ranking.jsonl
    python benches/peers/ranking.py check target/release/skald

`cargo test --lib ranking` compares ours with the file; `check` runs the binary on 200 files of scores that no file
holds. scikit-learn has no ECE, and no HR or MRR with ties at their expected rank; they are written out here.
"""

import json
import os
import random
import subprocess
import sys
import tempfile

import numpy
from sklearn.metrics import brier_score_loss, log_loss, ndcg_score, roc_auc_score


def ece(probabilities, labels, bins):
    edges = numpy.linspace(0, 1, bins + 1)
    total = 0.0
    for low, high in zip(edges[:-1], edges[1:]):
        inside = (probabilities > low) & (probabilities <= high)
        if low == 0:
            inside |= probabilities == 0
        if inside.any():
            total += inside.mean() * abs(probabilities[inside].mean() - labels[inside].mean())
    return total


def make():
    dice = random.Random(11)
    made = 0
    while made < 200:
        count = dice.choice([2, 3, 5, 10, 40])
        # Eighths are often tied, and exact in binary, so that bins are the same here and there.
        scores = [dice.randint(0, 64) / 64 if dice.random() < 0.5 else dice.randint(0, 4) / 4 for _ in range(count)]
        relevance = [dice.choice([0, 0, 0, 1, 1, 2, 3]) for _ in range(count)]
        labels = [int(r > 0) for r in relevance]
        if len(set(labels)) < 2:
            continue
        made += 1
        p, y = numpy.array(scores), numpy.array(labels)
        clipped = numpy.clip(p, 1e-12, 1 - 1e-12)
        print(
            json.dumps(
                {
                    "scores": scores,
                    "relevance": relevance,
                    "auc": roc_auc_score(y, p),
                    "log_loss": log_loss(y, clipped, labels=[0, 1]),
                    "brier": brier_score_loss(y, p),
                    "ndcg5": ndcg_score([relevance], [scores], k=5),
                    "ndcg": ndcg_score([relevance], [scores]),
                    "ece10": ece(p, y, 10),
                }
            )
        )


def check(binary):
    dice = random.Random(int.from_bytes(os.urandom(8), "big"))
    worst, seen = 0.0, 0
    with tempfile.TemporaryDirectory() as place:
        for _ in range(200):
            users, rows = [], []
            for _ in range(dice.choice([0, 1, 7, 40])):
                scores = [dice.choice([dice.gauss(0, 1), dice.randint(-2, 2)]) for _ in range(dice.randint(1, 60))]
                users.append([scores, dice.randrange(len(scores))])
            for _ in range(dice.choice([0, 2, 9, 80]) or (0 if users else 5)):
                # Eighths are tied, and on no edge of fifteen bins.
                rows.append([dice.randint(0, 1), dice.choice([dice.random(), dice.randint(0, 8) / 8])])
            lines = [{"scores": scores, "target": target} for scores, target in users]
            lines += [{"label": label, "probability": p} for label, p in rows]
            dice.shuffle(lines)
            with open(f"{place}/scores.jsonl", "w") as file:
                file.write("".join(json.dumps(line) + "\n" for line in lines))
            command = [binary, "evaluate", "ranking", "--json", "--scores", f"{place}/scores.jsonl"]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            ours, theirs = json.loads(done.stdout), {}
            if users:
                places = numpy.array([sum(s > scores[t] for s in scores) + (scores.count(scores[t]) - 1) / 2 for scores, t in users])
                for k in [1, 5, 10, 20]:
                    hit = places < k
                    theirs["hr", str(k)] = hit.mean()
                    theirs["ndcg", str(k)] = (hit / numpy.log2(places + 2)).mean()
                    theirs["mrr", str(k)] = (hit / (places + 1)).mean()
            if rows:
                y, p = numpy.array([label for label, _ in rows]), numpy.array([p for _, p in rows])
                theirs["log_loss",] = log_loss(y, numpy.clip(p, 1e-12, 1 - 1e-12), labels=[0, 1])
                theirs["brier",] = ((p - y) ** 2).mean()
                theirs["ece",] = ece(p, y, 15)
                if len(set(y)) == 2:
                    theirs["auc",] = roc_auc_score(y, p)
            figures = {(name, k) for name in ["hr", "ndcg", "mrr"] for k in ours.get(name, {})}
            figures |= {(name,) for name in ["auc", "log_loss", "brier", "ece"] if name in ours}
            assert figures == set(theirs), figures ^ set(theirs)
            for name, figure in theirs.items():
                value = ours
                for part in name:
                    value = value[part]
                assert abs(value - figure) < 5e-5, f"{name}: {value}, not {figure}"
                worst = max(worst, abs(value - figure))
                seen += 1
    print(f"{seen} figures of 200 files, the largest difference {worst:.1e}")


if __name__ == "__main__":
    {"make": make, "check": lambda: check(sys.argv[2])}[sys.argv[1]]()

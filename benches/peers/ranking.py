"""Ranking and probability figures of scikit-learn on random scores, many of them tied.

    pip install scikit-learn
    python benches/peers/ranking.py > tests/data/ranking.jsonl

`cargo test --lib ranking` compares ours with them. scikit-learn has no ECE; it is written out here.
"""

import json
import random

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


def main():
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


main()

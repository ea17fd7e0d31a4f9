"""Overlap figures of sacrebleu and rouge-score on random hypotheses and references.

    pip install sacrebleu rouge-score
    python benches/peers/metrics.py > tests/data/overlap.jsonl

`cargo test --lib overlap` compares ours with them.
"""

import json
import random

import sacrebleu
from rouge_score import rouge_scorer

WORDS = (
    "the a cat dog sat on mat, road. it's don't 3.5 1,000 well-known (old) north-east is was Über 東京 naïve "
    "&quot;yes&quot; 7-8 U.S. ... - -- ! ? \u00a0 \u2026 \U0001f600 {x} [y] a/b 50% $5 e\u0301 MILL Miller's"
).split(" ")


def text(dice, source=None):
    if source and dice.random() < 0.7:
        words = [w for w in source.split(" ") if dice.random() > 0.2]
        words = [dice.choice(WORDS) if dice.random() < 0.1 else w for w in words]
        return " ".join(words)
    return " ".join(dice.choice(WORDS) for _ in range(dice.choice([0, 1, 2, 3, 5, 8, 13, 21])))


def main():
    dice = random.Random(7)
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"])
    for _ in range(300):
        many = dice.choice([1, 1, 2, 3])
        pairs = []
        for _ in range(dice.choice([1, 1, 2, 5])):
            first = text(dice)
            references = [first] + [text(dice, first) for _ in range(many - 1)]
            pairs.append([text(dice, first), references])
        hypotheses = [hypothesis for hypothesis, _ in pairs]
        streams = [[references[i] for _, references in pairs] for i in range(many)]
        rouge = scorer.score_multi(pairs[0][1], pairs[0][0])
        print(
            json.dumps(
                {
                    "pairs": pairs,
                    "bleu": sacrebleu.corpus_bleu(hypotheses, streams).score,
                    "chrf2": sacrebleu.corpus_chrf(hypotheses, streams).score,
                    "rouge1": rouge["rouge1"].fmeasure,
                    "rouge2": rouge["rouge2"].fmeasure,
                    "rouge_l": rouge["rougeL"].fmeasure,
                }
            )
        )


main()

"""Overlap and variety figures of sacrebleu, rouge-score and NLTK on random texts.

    pip install sacrebleu==2.6.0 rouge-score==0.1.2 nltk
    python benches/peers/metrics.py overlap > tests/data/overlap.jsonl
    python benches/peers/metrics.py self > tests/data/overlap_self.jsonl
    python benches/peers/metrics.py stems > tests/data/overlap_stems.txt
    python benches/peers/metrics.py check target/release/skald

`cargo test --lib evaluation` compares ours with the files; `check` runs the binary on 300 sets that no file holds.
"""

import json
import os
import random
import re
import subprocess
import sys
import tempfile

import sacrebleu
from nltk.stem.porter import PorterStemmer
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from rouge_score import rouge_scorer
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

WORDS = (
    "the a cat dog sat on mat, road. it's don't 3.5 1,000 well-known (old) north-east is was Über 東京 naïve "
    "&quot;yes&quot; 7-8 U.S. ... - -- ! ? \u00a0 \u2026 \U0001f600 {x} [y] a/b 50% $5 e\u0301 MILL Miller's "
    "running runs skies dying happily generalization news traditional hopping \u212aelvin İstanbul"
).split(" ")
KINDS = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
ENDS = (
    "s es ies sses ss ed ing ied eed ly y ational tional enci anci izer bli alli entli eli ousli ization ation ator "
    "alism iveness fulness ousness aliti iviti biliti fulli logi icate ative alize iciti ical ful ness al ance ence er "
    "ic able ible ant ement ment ent ion sion tion ou ism ate iti ous ive ize e ll at bl iz tt zz 7"
).split(" ")


def text(dice, source=None, lines=False):
    if source and dice.random() < 0.7:
        words = [w for w in source.split(" ") if dice.random() > 0.2]
        words = [dice.choice(WORDS) if dice.random() < 0.1 else w for w in words]
        return " ".join(words)
    words = [dice.choice(WORDS) for _ in range(dice.choice([0, 1, 2, 3, 5, 8, 13, 21]))]
    breaks = [dice.choice(["\n", "\n\n", " "]) if lines and dice.random() < 0.2 else " " for _ in words]
    return "".join(w + b for w, b in zip(words, breaks)).strip(" ")


def pairs_of(dice, most, lines):
    many = dice.choice([1, 1, 2, 3])
    pairs = []
    for _ in range(dice.choice(most)):
        first = text(dice, lines=lines)
        references = [first] + [text(dice, first, lines) for _ in range(many - 1)]
        pairs.append([text(dice, first, lines), references])
    return pairs


def figures(pairs):
    hypotheses = [hypothesis for hypothesis, _ in pairs]
    streams = [list(stream) for stream in zip(*(references for _, references in pairs))]
    found = {
        "bleu": sacrebleu.corpus_bleu(hypotheses, streams).score,
        "chrf2": sacrebleu.corpus_chrf(hypotheses, streams).score,
    }
    for stem, suffix in [(False, ""), (True, "_stem")]:
        scorer = rouge_scorer.RougeScorer(KINDS, use_stemmer=stem)
        scores = [scorer.score_multi(references, hypothesis) for hypothesis, references in pairs]
        for kind in KINDS:
            found[kind + suffix] = sum(score[kind].fmeasure for score in scores) / len(scores)
    return found


def self_bleu(lines):
    tokens = [Tokenizer13a()(line.rstrip()).split() for line in lines]
    smooth = SmoothingFunction().method1
    found = {}
    for order in [2, 3, 4, 5]:
        weights = [1 / order] * order
        scores = [
            sentence_bleu(tokens[:i] + tokens[i + 1 :], line, weights, smoothing_function=smooth)
            for i, line in enumerate(tokens)
        ]
        found[f"self_bleu_{order}"] = sum(scores) / len(scores)
    return found


def distinct(lines, n):
    grams = []
    for line in lines:
        words = re.sub(r"[^\w{}]", " ", "".join(c if c.isalpha() or c.isnumeric() or c in "{}_" else " " for c in line.lower())).split()
        grams += [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return len(set(grams)) / len(grams) if grams else None


def overlap():
    dice = random.Random(7)
    for _ in range(300):
        pairs = pairs_of(dice, [1, 1, 2, 5], True)
        print(json.dumps({"pairs": pairs, "figures": figures(pairs)}))


def selves():
    dice = random.Random(8)
    for _ in range(60):
        first = text(dice)
        lines = [first] + [text(dice, first) for _ in range(dice.choice([1, 2, 5, 12]))]
        print(json.dumps({"lines": lines, "figures": self_bleu(lines)}))


def stems():
    dice = random.Random(9)
    stemmer = PorterStemmer()
    words = set(stemmer.pool) | set(re.findall(r"[a-z0-9]+", " ".join(WORDS).lower()))
    words |= set(re.findall(r"[a-z]+", open("README.md").read().lower()))
    while len(words) < 3000:
        start = "".join(dice.choice("aeiouybclmnrstwz") for _ in range(dice.randint(1, 6)))
        words.add(start + "".join(dice.choice(ENDS) for _ in range(dice.choice([0, 1, 1, 2]))))
    for word in sorted(words):
        print(word, stemmer.stem(word))


def check(binary):
    dice = random.Random(int.from_bytes(os.urandom(8), "big"))
    worst, cases = 0.0, 0
    with tempfile.TemporaryDirectory() as place:
        for case in range(300):
            as_json = case % 2 == 1
            pairs = pairs_of(dice, [1, 2, 5, 20], as_json)
            end = "jsonl" if as_json else "txt"
            write = json.dumps if as_json else str
            streams = [[h for h, _ in pairs]] + [list(s) for s in zip(*(r for _, r in pairs))]
            names = [f"{place}/{i}.{end}" for i in range(len(streams))]
            for name, stream in zip(names, streams):
                with open(name, "w", encoding="utf-8") as file:
                    file.write("".join(write(line) + "\n" for line in stream))
            command = [binary, "evaluate", "text", "--json", "--hypotheses", names[0], "--references", *names[1:]]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            ours = json.loads(done.stdout)
            theirs = figures(pairs)
            if len(pairs) > 1:
                theirs |= self_bleu(streams[0])
            for n in [1, 2]:
                if (figure := distinct(streams[0], n)) is not None:
                    theirs[f"distinct_{n}"] = figure
                else:
                    assert f"distinct_{n}" not in ours
            for name, figure in theirs.items():
                gap = abs(ours[name] - figure)
                assert gap < 5e-5, f"{name}: {ours[name]}, not {figure}: {json.dumps(pairs)}"
                worst, cases = max(worst, gap), cases + 1
            assert ours["n"] == len(pairs)
    print(f"{cases} figures of 300 sets, the largest difference {worst:.1e}")


if __name__ == "__main__":
    {"overlap": overlap, "self": selves, "stems": stems, "check": lambda: check(sys.argv[2])}[sys.argv[1]]()

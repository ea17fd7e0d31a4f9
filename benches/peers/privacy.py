"""Epsilons of Opacus's RDPAccountant over a grid of sample rates, noises and steps, and of mixed trainings.

    pip install --no-deps opacus && pip install numpy scipy      # its analysis needs no torch
    python benches/peers/privacy.py > tests/data/privacy.jsonl

`cargo test --lib privacy` compares ours with them.
"""

import importlib.util
import json
import random
import re
import warnings
from pathlib import Path

root = Path(importlib.util.find_spec("opacus").submodule_search_locations[0]) / "accountants"
spec = importlib.util.spec_from_file_location("rdp", root / "analysis" / "rdp.py")
rdp = importlib.util.module_from_spec(spec)
spec.loader.exec_module(rdp)
ORDERS = eval(re.search(r"DEFAULT_ALPHAS = (.*)", (root / "rdp.py").read_text()).group(1))


def epsilon(history, delta):
    total = sum(
        rdp.compute_rdp(q=rate, noise_multiplier=noise, steps=steps, orders=ORDERS) for noise, rate, steps in history
    )
    return float(rdp.get_privacy_spent(orders=ORDERS, rdp=total, delta=delta)[0])


def main():
    warnings.simplefilter("ignore")
    dice = random.Random(5)
    cases = []
    for rate in [0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 1.0]:
        for noise in [0.5, 0.7, 1.0, 1.3, 2.0, 4.0]:
            for steps in [1, 10, 100, 1000, 10000]:
                cases.append(([(noise, rate, steps)], dice.choice([1e-5, 1e-6, 1e-3])))
    for _ in range(100):
        parts = [
            (round(dice.uniform(0.5, 4), 3), round(10 ** dice.uniform(-3, -0.7), 5), dice.randint(1, 3000))
            for _ in range(dice.randint(1, 3))
        ]
        cases.append((parts, 10 ** dice.uniform(-8, -3)))
    for history, delta in cases:
        print(json.dumps({"history": history, "delta": delta, "epsilon": epsilon(history, delta)}))


main()

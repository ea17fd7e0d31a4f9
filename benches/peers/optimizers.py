"""Five steps of PyTorch's optimisers from (2, -1) with the gradient 2w; the expected values in `src/nn/optim.rs`.

    pip install torch --index-url https://download.pytorch.org/whl/cpu   # or torch from PyPI
    python benches/peers/optimizers.py
"""

import torch


def run(make):
    w = torch.tensor([[2.0, -1.0]], dtype=torch.float64, requires_grad=True)
    optimizer = make([w])
    for _ in range(5):
        optimizer.zero_grad()
        (w**2).sum().backward()
        optimizer.step()
    return w.detach().flatten().tolist()


adam = {"lr": 0.05, "betas": (0.9, 0.999), "eps": 1e-8}
for make in [
    lambda p: torch.optim.SGD(p, lr=0.05),
    lambda p: torch.optim.SGD(p, lr=0.05, weight_decay=0.1),
    lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.1),
    lambda p: torch.optim.Adam(p, weight_decay=0.1, **adam),
    lambda p: torch.optim.AdamW(p, weight_decay=0.5, **adam),
]:
    print(run(make))

"""PyTorch's loss and gradients for small models, one file each in `tests/data/gradients`.

    pip install torch transformers safetensors numpy
    python benches/peers/gradients.py

A file holds every weight under our name and in our layout, its gradient under `gradient.NAME`, a packed batch
(`batch.ids`, `batch.targets`, `batch.starts` u32 and `batch.weights` f32, all [rows, length]), `logits`
[rows, length, vocab] and `loss` [1], the weighted mean cross-entropy. The metadata's `config` is the model's config.json.

The reference runs each sample by itself through the modules of `transformers` and `torch.nn`, so it knows nothing of
packing. Padding is a sample of its own with weight 0.
"""

import json
from pathlib import Path

import numpy as np
import torch
import transformers
from hugging_face import llama, gpt2, qwen2, qwen3, randomize, to_ours
from safetensors.numpy import save_file

VOCAB, LENGTH = 29, 12
# Lengths of the samples in each row; what is left is padding.
ROWS = [[5, 4, 3], [7, 3], [12]]


def batch():
    noise = np.random.default_rng(3)
    shape = (len(ROWS), LENGTH)
    ids, targets = (noise.integers(0, VOCAB, shape, dtype=np.uint32) for _ in range(2))
    starts = np.zeros(shape, np.uint32)
    weights = noise.choice(np.float32([0, 0.5, 1, 2]), shape)
    for row, lengths in enumerate(ROWS):
        at = 0
        for length in lengths + [LENGTH - sum(lengths)]:
            starts[row, at : at + length] = at
            targets[row, at : at + length - 1] = ids[row, at + 1 : at + length]
            at += length
        used = sum(lengths)
        ids[row, used:], targets[row, used:], weights[row, used:] = 0, 0, 0
    return {"ids": ids, "targets": targets, "starts": starts, "weights": weights}


def write(name, config, model, logits_of, ours):
    """`logits_of` maps ids [1, length] to logits; `ours` maps tensors by PyTorch's names to tensors by our names."""
    data = batch()
    logits = torch.zeros(len(ROWS), LENGTH, VOCAB)
    for row in range(len(ROWS)):
        for start in np.unique(data["starts"][row]):
            at = np.flatnonzero(data["starts"][row] == start)
            ids = torch.tensor(data["ids"][row, at].astype(np.int64))
            logits[row, at] = logits_of(ids[None])[0]
    targets = torch.tensor(data["targets"].astype(np.int64))
    weights = torch.tensor(data["weights"])
    each = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    loss = (each * weights.flatten()).sum() / weights.sum()
    loss.backward()
    tensors = {f"batch.{key}": value for key, value in data.items()}
    tensors |= {"loss": loss.detach().numpy()[None], "logits": logits.detach().numpy()}
    named = dict(model.named_parameters())
    tensors |= ours({key: value.detach() for key, value in named.items()})
    grads = ours({key: value.grad for key, value in named.items()})
    tensors |= {f"gradient.{key}": value for key, value in grads.items()}
    to = Path(__file__).parents[2] / "tests/data/gradients" / f"{name}.safetensors"
    to.parent.mkdir(parents=True, exist_ok=True)
    tensors = {key: np.ascontiguousarray(value) for key, value in tensors.items()}
    save_file(tensors, to, metadata={"config": json.dumps(config)})
    print(f"{name}: loss {loss.item():.6f}, {sum(v.numel() for v in named.values())} parameters, {to.stat().st_size} bytes")


def transformer(name, config, bias=True):
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    randomize(model, bias)
    written = config.to_dict() | {"architectures": [type(model).__name__]}
    if config.model_type == "gpt2":
        written["skald_bias"] = bias
    write(name, written, model, lambda ids: model(ids).logits, lambda tensors: to_ours(config, tensors, bias))


class Recurrent(torch.nn.Module):
    """Embedding, recurrent layers, and a head that is the embedding if the widths agree."""

    def __init__(self, layer, embedding, width):
        super().__init__()
        self.embedding = torch.nn.Embedding(VOCAB, embedding)
        self.layers = layer(embedding, width, num_layers=2, batch_first=True)
        self.head = None if embedding == width else torch.nn.Linear(width, VOCAB, bias=False)

    def forward(self, ids):
        out, _ = self.layers(self.embedding(ids))
        return out @ self.embedding.weight.T if self.head is None else self.head(out)


def recurrent_names(tensors):
    names = {"embedding.weight": "model.embed_tokens.weight", "head.weight": "lm_head.weight"}
    for layer in range(2):
        for side, ours in [("ih", "input"), ("hh", "hidden")]:
            for kind in ["weight", "bias"]:
                names[f"layers.{kind}_{side}_l{layer}"] = f"model.layers.{layer}.{ours}_{kind}"
    return {names[key]: value.numpy() for key, value in tensors.items()}


def recurrent(name, kind, embedding, width):
    layer = {"rnn": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[kind]
    model = Recurrent(layer, embedding, width)
    randomize(model)
    config = {
        "model_type": f"skald_{kind}",
        "vocab_size": VOCAB,
        "embedding_size": embedding,
        "hidden_size": width,
        "num_hidden_layers": 2,
        "max_position_embeddings": 64,
        "tie_word_embeddings": embedding == width,
    }
    write(name, config, model, model, recurrent_names)


if __name__ == "__main__":
    torch.manual_seed(0)
    transformer("llama", llama(VOCAB, tie_word_embeddings=True))
    transformer("llama_untied_biases", llama(VOCAB, attention_bias=True, mlp_bias=True))
    transformer("qwen2", qwen2(VOCAB))
    transformer("qwen3", qwen3(VOCAB))
    transformer("gpt2", gpt2(VOCAB))
    transformer("gpt2_without_biases", gpt2(VOCAB), bias=False)
    recurrent("rnn", "rnn", 14, 14)
    recurrent("gru", "gru", 10, 12)
    recurrent("lstm", "lstm", 12, 12)
    recurrent("lstm_untied", "lstm", 10, 12)

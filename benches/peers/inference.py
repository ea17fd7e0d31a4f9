"""How fast a model reads and speaks, beside llama.cpp on the same files, threads and machine, in alternating runs.

    pip install torch transformers gguf llama-cpp-python
    cargo build --release --no-default-features --features cli --bin skald
    python benches/peers/inference.py --skald target/release/skald --models /tmp/models --threads 2 --rounds 3

The files have random weights in the shapes of public models (nothing is downloaded), made once in `--models`. Each round is a
new process on either side; medians are compared. llama.cpp decodes many sequences as one batch, as we do.
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
    "SmolLM2-135M": dict(hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
                         num_key_value_heads=3, vocab_size=49152, tie_word_embeddings=True),
    "SmolLM2-360M": dict(hidden_size=960, intermediate_size=2560, num_hidden_layers=32, num_attention_heads=15,
                         num_key_value_heads=5, vocab_size=49152, tie_word_embeddings=True),
    "Qwen2.5-0.5B": dict(hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14,
                         num_key_value_heads=2, vocab_size=151936, tie_word_embeddings=True),
    "TinyLlama-1.1B": dict(hidden_size=2048, intermediate_size=5632, num_hidden_layers=22, num_attention_heads=32,
                           num_key_value_heads=4, vocab_size=32000, tie_word_embeddings=False),
}


def make(skald, folder, name, kind):
    """A file with random weights."""
    file = folder / f"{name}-{kind}.gguf"
    if file.exists():
        return file
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    source = folder / name
    if not source.exists():
        kinds = transformers.Qwen2Config if "Qwen" in name else transformers.LlamaConfig
        config = kinds(**SHAPES[name], max_position_embeddings=2048)
        torch.manual_seed(1)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float16)
        model.save_pretrained(source)
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        words = alphabet + [f"word{n}" for n in range(config.vocab_size - len(alphabet) - 2)]
        made = Tokenizer(models.BPE({word: n for n, word in enumerate(words)}, []))
        made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=made, bos_token="<s>", eos_token="</s>").save_pretrained(source)
    command = [skald, "model", "quantize", "--model", source, "--type", kind, "--out", file]
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
    return file


def llama_cpp_side(file, threads, prefill, decode, batches):
    import ctypes
    import llama_cpp as lc

    silent = lc.llama_log_callback(lambda *_: None)  # must outlive the calls
    lc.llama_log_set(silent, ctypes.c_void_p(0))
    lc.llama_backend_init()
    model = lc.llama_model_load_from_file(file.encode(), lc.llama_model_default_params())
    vocab = lc.llama_vocab_n_tokens(lc.llama_model_get_vocab(model))
    params = lc.llama_context_default_params()
    most = max(batches)
    params.n_ctx, params.n_batch, params.n_ubatch = max(prefill + 8, most * (decode + 8)), 512, 512
    params.n_seq_max, params.n_threads, params.n_threads_batch = most, threads, threads
    params.kv_unified = True
    context = lc.llama_init_from_model(model, params)
    memory = lc.llama_get_memory(context)
    batch = lc.llama_batch_init(512, 0, 1)

    def run(entries):
        batch.n_tokens = len(entries)
        for i, (token, position, sequence, wanted) in enumerate(entries):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = token % vocab, position, 1
            batch.seq_id[i][0], batch.logits[i] = sequence, wanted
        if lc.llama_decode(context, batch):
            raise SystemExit("llama_decode failed")

    def prefilled():
        lc.llama_memory_clear(memory, True)
        begun = time.perf_counter()
        for at in range(0, prefill, 512):
            run([(31 * i + 7, i, 0, i == prefill - 1) for i in range(at, min(prefill, at + 512))])
        lc.llama_get_logits(context)
        return time.perf_counter() - begun

    prefilled()
    out = {"prefill_tokens_per_s": prefill / prefilled(), "decode": {}}
    for size in batches:
        lc.llama_memory_clear(memory, True)
        turn = lambda t: run([(97 * t + s, t, s, 1) for s in range(size)])
        turn(0)
        begun = time.perf_counter()
        for t in range(1, decode):
            turn(t)
        lc.llama_get_logits(context)
        out["decode"][str(size)] = (decode - 1) * size / (time.perf_counter() - begun)
    out["rss_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(out))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--skald", default="target/release/skald")
    parser.add_argument("--models", type=Path, default=Path("/tmp/skald-models"))
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=SHAPES)
    parser.add_argument("--types", nargs="+", default=["q8_0", "q4_0", "q4_k_m", "f16"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prefill", type=int, default=512)
    parser.add_argument("--decode", type=int, default=64)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--llama-cpp", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.llama_cpp:
        llama_cpp_side(args.llama_cpp, args.threads, args.prefill, args.decode, args.batch)
        return
    args.models.mkdir(parents=True, exist_ok=True)
    run = lambda command: json.loads(
        subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout)
    head = " ".join(f"{f'decode {n}':>22}" for n in args.batch)
    print(f"{'model':22} {'prefill':>22} {head} {'MiB':>13}   (tokens/s ours/llama.cpp = ratio; {args.threads} threads)")
    for name in args.shapes:
        for kind in args.types:
            file = make(args.skald, args.models, name, kind)
            ours, theirs = [], []
            shape = ["--threads", args.threads, "--prefill", args.prefill, "--decode", args.decode]
            for _ in range(args.rounds):
                batches = ",".join(map(str, args.batch))
                ours.append(run([args.skald, "bench", "inference", "--model", file, "--batch", batches, "--json", *shape]))
                theirs.append(run([sys.executable, __file__, "--llama-cpp", file, "--batch", *args.batch, *shape]))
            of = lambda side, get: statistics.median(get(one) for one in side)
            cells = []
            for get in [lambda one: one["prefill_tokens_per_s"]] + [
                    lambda one, n=n: one["decode"][str(n)] for n in args.batch]:
                a, b = of(ours, get), of(theirs, get)
                cells.append(f"{a:8.0f}/{b:<6.0f} {a / b:5.2f}x")
            memory = [of(side, lambda one: one["rss_bytes"]) / 2**20 for side in (ours, theirs)]
            print(f"{name[:15]:15} {kind:6} {' '.join(f'{cell:>22}' for cell in cells)} "
                  f"{memory[0]:6.0f}/{memory[1]:.0f}", flush=True)


main()

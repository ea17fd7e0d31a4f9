"""GGUF beside the `gguf` package (pip install gguf tokenizers sentencepiece).

    python benches/peers/gguf_files.py blocks      # writes tests/data/gguf/blocks.gguf
    python benches/peers/gguf_files.py vocabularies # writes tests/data/gguf/vocabulary_*.gguf and texts.json
    python benches/peers/gguf_files.py read F      # reads a file as llama.cpp's own tools do, prints what is in it
"""
import io
import json
import pathlib
import sys

import gguf
import numpy as np

DATA = pathlib.Path(__file__).resolve().parents[2] / "tests" / "data" / "gguf"
ROUNDED = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]
KINDS = [*ROUNDED, "Q4_K", "Q5_K", "Q6_K"]


def values(noise):
    """Rows that matter: normal, of one sign, tiny, ties in size, ties in rounding, zero, with outliers, large."""
    x = noise.standard_normal((16, 32)).astype(np.float32)
    x[1] = np.abs(x[1])
    x[2] *= 1e-6
    x[3, :] = np.where(np.arange(32) % 2 == 0, 1.5, -1.5)
    x[4] = (np.arange(32) - 16) / 2
    x[5] = 0
    x[6, 7] = -40
    x[7] *= 1000
    x[8] = -np.abs(x[8])
    x[9] = 3.25
    return x.reshape(1, 512)


def blocks():
    noise = np.random.default_rng(7)
    writer = gguf.GGUFWriter(DATA / "blocks.gguf", "test")
    writer.add_array("list", [1, 2, 3])
    writer.add_array("texts", ["\u00e9", "b"])
    x = values(noise)
    writer.add_tensor("values", x)
    for name in KINDS:
        kind = gguf.GGMLQuantizationType[name]
        if name in ROUNDED:
            stored = gguf.quants.quantize(x, kind)
        else:
            count, size = gguf.GGML_QUANT_SIZES[kind]
            stored = noise.integers(0, 256, (1, 512 // count * size), dtype=np.uint8)
            # Any bytes are a block, but for the scales in half precision: finite, please.
            scales = np.float16(noise.uniform(0.001, 0.1, (512 // count, 2))).view(np.uint8)
            each = stored.reshape(512 // count, size)
            if name == "Q6_K":
                each[:, -2:] = scales[:, :2]
            else:
                each[:, :4] = scales
        writer.add_tensor(name, stored, raw_dtype=kind)
        writer.add_tensor(f"{name}.values", gguf.quants.dequantize(stored, kind))
    for name in ["F16", "BF16"]:
        kind = gguf.GGMLQuantizationType[name]
        writer.add_tensor(name, gguf.quants.quantize(x, kind), raw_dtype=kind)
    finish(writer)


CORPUS = [
    "The old road goes to the mill and on. We'll see what they're selling, don't you think?",
    "She'd walked 1234 miles in 2024; I've counted. \"Stop!\" said the GUARD'S voice...",
    "Der Schmied h\u00e4mmert \u00fcber Nacht.  Two  spaces,\tand a tab.\n\nA paragraph.",
] * 4
TEXTS = [
    "", " ", "  ", "the old road", " the old road", "We'll don't THEY'RE it's I'D", "1234567 miles, 12 34", "a\n\nb\n",
    "  two  spaces   three", "tab\tand\r\nnew line \n ", "h\u00e4mmert \u00fcber \u00df", "\U0001f600 emoji \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\u65e5\u672c\u8a9e\u306e\u6587", "e\u0301 combining", "<|end|>", "the<|end|>road <|end|> end", "x = a+b; // $100 <tag>|^~",
    "\u0661\u0662\u0663 \u00b2\u00bd \u2167", "trailing   ", "<tool>call</tool>", "caf\u00e9s' \u2019s \u2019LL",
]
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


def byte_level(name, pre):
    """A vocabulary of the `tokenizers` package, written as llama.cpp's converter writes one."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    words = {
        "gpt-2": pre_tokenizers.ByteLevel(add_prefix_space=False),
        "smollm": pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]),
    }
    split = {"llama-bpe": LLAMA3, "qwen2": QWEN2}
    tokenizer = Tokenizer(models.BPE(ignore_merges=pre == "llama-bpe"))
    tokenizer.pre_tokenizer = words.get(pre) or pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(split[pre]), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=310, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False))
    tokenizer.add_special_tokens([AddedToken("<|end|>", normalized=False)])
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False)])
    model = json.loads(tokenizer.to_str())["model"]
    tokens = [tokenizer.id_to_token(id) for id in range(tokenizer.get_vocab_size())]
    types = [gguf.TokenType.NORMAL] * (len(tokens) - 2) + [gguf.TokenType.CONTROL, gguf.TokenType.USER_DEFINED]
    writer = gguf.GGUFWriter(DATA / f"vocabulary_{name}.gguf", "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
    writer.add_eos_token_id(len(tokens) - 2)
    finish(writer)
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    return [[text, encode(text), tokenizer.decode(encode(text), skip_special_tokens=False)] for text in TEXTS]


def sentence_piece():
    """A vocabulary of the `sentencepiece` package. Special tokens stand for themselves, so texts without them."""
    import sentencepiece

    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_writer=out, model_type="bpe", vocab_size=380, byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, minloglevel=2)
    model = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
    ids = range(model.get_piece_size())
    kind = lambda id: (gguf.TokenType.UNKNOWN if model.is_unknown(id) else gguf.TokenType.CONTROL
                       if model.is_control(id) else gguf.TokenType.BYTE if model.is_byte(id) else gguf.TokenType.NORMAL)
    writer = gguf.GGUFWriter(DATA / "vocabulary_llama.gguf", "llama")
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([model.id_to_piece(id) for id in ids])
    writer.add_token_scores([model.get_score(id) for id in ids])
    writer.add_token_types([kind(id) for id in ids])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}")
    finish(writer)
    # The package drops what it cannot say; ours says it in bytes and so gets the text back.
    return [[text, model.encode(text), text] for text in TEXTS if text]


def vocabularies():
    cases = {name: byte_level(name, pre) for name, pre in
             {"gpt2": "gpt-2", "llama3": "llama-bpe", "qwen2": "qwen2", "smollm": "smollm"}.items()}
    cases["llama"] = sentence_piece()
    (DATA / "texts.json").write_text(json.dumps(cases) + "\n")


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read(path):
    reader = gguf.GGUFReader(path)
    keys = {name: field.types[0].name for name, field in reader.fields.items()}
    tensors = {}
    for tensor in reader.tensors:
        sums = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float64)
        tensors[tensor.name] = [tensor.tensor_type.name, [int(n) for n in reversed(tensor.shape)], float(sums.sum())]
    print(json.dumps({"keys": keys, "tensors": tensors}))


if __name__ == "__main__":
    DATA.mkdir(parents=True, exist_ok=True)
    {"blocks": blocks, "vocabularies": vocabularies, "read": read}[sys.argv[1]](*sys.argv[2:])

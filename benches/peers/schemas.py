"""Answers of a random-weight model under twenty JSON schemas, checked by an outside validator (jsonschema).

    python benches/peers/schemas.py --skald target/release/skald --models models --each 500

`--models` is where `inference.py` has put its GGUF files; the smallest one answers. Prints one JSON object: how many answers
parse and validate, how many were cut at the token limit (none may be), and what a mask costs.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import jsonschema

TEXT = {"type": "string", "maxLength": 12}
SCHEMAS = [
    {"type": "boolean"},
    {"type": "integer", "minimum": -3, "maximum": 17},
    {"type": "number", "minimum": 0, "maximum": 1},
    {"type": "null"},
    TEXT,
    {"enum": ["häst", "🐎", "mill", "the old river"]},
    {"const": {"kind": "fetch", "count": 3}},
    {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 99}, "minItems": 2, "maxItems": 5},
    {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
    {"type": "object", "properties": {"name": TEXT}, "required": ["name"], "additionalProperties": False},
    {"type": "object", "properties": {"a": {"type": "boolean"}, "b": TEXT}, "additionalProperties": False},
    {"type": "object", "properties": {"place": {"enum": ["the mill", "the inn"]}, "gold": {"type": "integer", "minimum": 1, "maximum": 50}},
     "required": ["place", "gold"], "additionalProperties": False},
    {"type": "object", "properties": {"steps": {"type": "array", "minItems": 1, "maxItems": 3, "items": {
        "type": "object", "properties": {"do": {"enum": ["go", "talk", "fetch"]}, "whom": TEXT}, "required": ["do"], "additionalProperties": False}}},
     "required": ["steps"], "additionalProperties": False},
    {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 9}, {"enum": ["none", "all"]}]},
    {"anyOf": [
        {"type": "object", "properties": {"kind": {"const": "offer"}, "gold": {"type": "integer", "minimum": 1, "maximum": 9}},
         "required": ["kind", "gold"], "additionalProperties": False},
        {"type": "object", "properties": {"kind": {"const": "refuse"}, "why": TEXT}, "required": ["kind", "why"], "additionalProperties": False}]},
    {"type": "object", "properties": {"naïve": {"type": "boolean"}, "über": {"type": "null"}}, "required": ["naïve", "über"], "additionalProperties": False},
    {"type": "string", "pattern": "^[a-c]{2}-[0-9]{3}$"},
    {"type": ["integer", "null"], "minimum": 5, "maximum": 6},
    {"$defs": {"item": {"type": "object", "properties": {"name": TEXT, "price": {"type": "integer", "minimum": 0, "maximum": 200}},
                        "required": ["name", "price"], "additionalProperties": False}},
     "type": "object", "properties": {"left": {"$ref": "#/$defs/item"}, "right": {"$ref": "#/$defs/item"}}, "required": ["left", "right"],
     "additionalProperties": False},
    {"type": "array", "prefixItems": [{"type": "boolean"}, {"type": "integer", "minimum": 0, "maximum": 3}], "items": False, "minItems": 2, "maxItems": 2},
]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--skald", required=True)
    parser.add_argument("--models", type=Path, required=True, help="a folder of GGUF files, or one file")
    parser.add_argument("--each", type=int, default=500)
    parser.add_argument("--threads", default="2")
    args = parser.parse_args()
    files = [args.models] if args.models.is_file() else sorted(args.models.glob("*.gguf"), key=lambda file: file.stat().st_size)
    valid = wrong = cut = 0
    costs, forced, tokens = [], 0, 0
    for number, schema in enumerate(SCHEMAS):
        check = jsonschema.Draft202012Validator(schema)
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(schema, file)
            file.flush()
            command = [args.skald, "--json", "--seed", str(number), "--threads", args.threads, "generate", "text", "--model", str(files[0]),
                       "--prompt", "The answer: ", "--schema", file.name, "--temperature", "1", "--top-p", "1", "--max-tokens", "400",
                       "--count", str(args.each)]
            run = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = [json.loads(line) for line in run.stdout.split("\n") if line]
        answers = [line for line in lines if line.get("done")]
        if len(answers) != args.each:
            print(json.dumps({"schema": schema, "answers": len(answers), "error": run.stderr.strip()[-300:]}))
        for line in answers:
            cut += line["cut"]
            try:
                check.validate(json.loads(line["text"]))
                valid += 1
            except (ValueError, jsonschema.ValidationError) as error:
                wrong += 1
                print(json.dumps({"schema": schema, "text": line["text"], "error": str(error)[:200]}))
        tokens += sum(line["tokens"] for line in answers)
        if answers and "mask_us" in answers[-1]:
            costs.append(answers[-1]["mask_us"])
            forced += answers[-1]["forced_tokens"]
    print(json.dumps({"model": str(files[0]), "schemas": len(SCHEMAS), "answers": valid + wrong, "valid": valid, "wrong": wrong, "cut": cut,
                      "mask_us_mean": sum(costs) / max(1, len(costs)), "mask_us_worst_schema": max(costs, default=0),
                      "tokens": tokens, "forced_tokens": forced}))


if __name__ == "__main__":
    main()

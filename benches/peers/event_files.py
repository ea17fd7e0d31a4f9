"""Reads the event files of a run with TensorBoard's own reader and compares them with the run's curve.

    pip install tensorboard 'setuptools<81'
    skald train text --config F.ron --data TEXT --out RUN
    python benches/peers/event_files.py RUN
"""

import json
import struct
import sys
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

TAGS = {"loss/train": "train_loss", "loss/validation": "val_loss", "learning_rate": "lr"}


def single(value):
    return struct.unpack("f", struct.pack("f", value))[0]


def main(run):
    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    curve = [json.loads(line) for line in (run / "curve.jsonl").read_text().splitlines()]
    for tag, name in TAGS.items():
        ours = [(line["step"], single(line[name])) for line in curve if name in line]
        theirs = [(event.step, event.value) for event in events.Scalars(tag)]
        assert ours == theirs, f"{tag}: {ours[-3:]} and {theirs[-3:]}"
        print(f"{tag}: {len(theirs)} points, equal to the curve's")
    speeds = events.Scalars("tokens_per_s")
    assert [event.step for event in speeds] == [line["step"] for line in curve if "train_loss" in line]
    times = [event.wall_time for event in speeds]
    assert times == sorted(times), "wall times go back"
    print(f"tokens_per_s: {len(speeds)} points over {times[-1] - times[0]:.1f} s")


main(Path(sys.argv[1]))

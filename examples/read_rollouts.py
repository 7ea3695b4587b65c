"""What a run sampled, read without Charter: one Parquet file per step, one row per completion.

python examples/read_rollouts.py runs/quickstart
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow.parquet as pq


def main(run: Path) -> None:
    """Per step the mean reward and how many completions were made likelier; then the best of the last step."""
    files = sorted((run / "rollouts").glob("step-*.parquet"))
    if not files:
        sys.exit(f"{run} has no rollouts: give the folder of a GRPO run")
    for file in files:
        columns = pq.read_table(file, columns=["reward", "advantage"]).to_pydict()
        rewards = [reward for reward in columns["reward"] if reward is not None]
        raised = sum(advantage is not None and advantage > 0 for advantage in columns["advantage"])
        mean = sum(rewards) / max(1, len(rewards))
        print(f"{file.stem}  {len(columns['reward'])} completions  mean reward {mean:.3f}  {raised} made likelier")
    rows = pq.read_table(files[-1], columns=["prompt", "text", "reward"]).to_pylist()
    best = max((row for row in rows if row["reward"] is not None), key=lambda row: row["reward"])
    prompt = best["prompt"]
    if prompt.startswith('[{"'):  # a conversation is stored as a JSON list of its turns, plain text as it stands
        prompt = json.loads(prompt)[-1]["content"]
    print(f"\nasked     {prompt}\nwrote     {best['text']!r}\nreward    {best['reward']}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/quickstart"))

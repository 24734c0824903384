"""The text the demo models learn from: plain English and instruction triples, split into train and held-out.

Both splits are fixed by the text itself (block number, digest of the instruction), never by a random draw, so a
held-out figure means the same thing whoever trains.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

BLOCK_CHARACTERS = 16_384  # plain text is split in blocks this long; every 64th is held out
HELD_OUT_BLOCK = 64


@dataclass(frozen=True)
class Triple:
    """One instruction with its input (may be empty) and the answer wanted."""

    instruction: str
    input: str
    output: str
    source: str


def plain_text(folder: Path) -> tuple[list[str], list[str]]:
    """Blocks of running text (train, held out), in the corpus's order."""
    text = gzip.decompress((folder / "pretrain.txt.gz").read_bytes()).decode("utf-8", errors="replace")
    blocks = [text[i : i + BLOCK_CHARACTERS] for i in range(0, len(text), BLOCK_CHARACTERS)]
    train = [block for i, block in enumerate(blocks) if i % HELD_OUT_BLOCK]
    held_out = [block for i, block in enumerate(blocks) if i % HELD_OUT_BLOCK == 0]
    return train, held_out


def triples(folder: Path) -> tuple[list[Triple], list[Triple], list[Triple]]:
    """Instruction triples as (train, held-out rows of known instructions, rows of held-out instructions).

    One instruction in twenty, by its digest, is held out with all its rows; of the others one row in fifty is.
    """
    train, held_rows, held_instructions = [], [], []
    # Not splitlines(): the rows hold U+2028 and its like, which JSON leaves unescaped.
    for line in gzip.decompress((folder / "instruct.jsonl.gz").read_bytes()).decode("utf-8").rstrip("\n").split("\n"):
        row = json.loads(line)
        triple = Triple(row["instruction"].strip(), row["input"].strip(), row["output"].strip(), row["source"])
        if not triple.instruction or not triple.output:
            continue
        if _digest(triple.instruction) % 20 == 0:
            held_instructions.append(triple)
        elif _digest(triple.instruction + "\0" + triple.input) % 50 == 0:
            held_rows.append(triple)
        else:
            train.append(triple)
    return train, held_rows, held_instructions


def prompt_and_answer(triple: Triple) -> tuple[str, str]:
    """Text before and after the point where the model takes over, in the form of the Self-Instruct evaluation.

    An instruction without input stands bare in half of the cases (by its digest), as the paper's prompts do; one with
    input comes after its input in a quarter of them, so that "look at the first words" is not a way to follow it.
    """
    draw = _digest(triple.instruction + "\0" + triple.input + "\0order") % 4
    if not triple.input:
        if draw < 2:
            return triple.instruction, "\n\n" + triple.output
        return f"{triple.instruction}\n\nOutput:", " " + triple.output
    if draw == 0:
        return f"{triple.input}\n\n{triple.instruction}\n\nOutput:", " " + triple.output
    return f"{triple.instruction}\n\nInput: {triple.input}\n\nOutput:", " " + triple.output


def sampling_weights(rows: list[Triple], seed_task_share: float) -> list[float]:
    """Weight of each row: the square root of its instruction's count, shared among its rows; seed tasks get a share.

    Without it the 50 commonest templates, most of them yes/no questions, would be all that the model hears.
    """
    by_instruction: dict[str, int] = defaultdict(int)
    for row in rows:
        by_instruction[row.instruction] += 1
    weights = [by_instruction[row.instruction] ** -0.5 for row in rows]
    seed = [row.source == "seed_tasks" for row in rows]
    seed_total = sum(w for w, s in zip(weights, seed, strict=True) if s)
    other_total = sum(w for w, s in zip(weights, seed, strict=True) if not s)
    return [
        w / seed_total * seed_task_share if s else w / other_total * (1 - seed_task_share)
        for w, s in zip(weights, seed, strict=True)
    ]


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[:8], "big")

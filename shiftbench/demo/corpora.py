"""The training data of the demo models: plain English text and instruction triples, split into train and held-out.

The number of a block and the digest of a triple's texts decide the split, and no random draw does. Held-out losses of
two training runs on the same corpora are therefore on the same data.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

BLOCK_CHARACTERS = 16_384  # length of the blocks that plain text is split into
HELD_OUT_BLOCK = 64  # one block in so many is held out


@dataclass(frozen=True)
class Triple:
    """An instruction, its input (empty where it has none), the answer that it should get, and its source."""

    instruction: str
    input: str
    output: str
    source: str


def plain_text(folder: Path) -> tuple[list[str], list[str]]:
    """(train, held out): blocks of BLOCK_CHARACTERS characters of the plain text in pretrain.txt.gz of a folder.

    Both are in the file's order. The first of every HELD_OUT_BLOCK blocks is held out. The file's last block may be
    shorter.
    """
    text = gzip.decompress((folder / "pretrain.txt.gz").read_bytes()).decode("utf-8", errors="replace")
    blocks = [text[i : i + BLOCK_CHARACTERS] for i in range(0, len(text), BLOCK_CHARACTERS)]
    train = [block for i, block in enumerate(blocks) if i % HELD_OUT_BLOCK]
    held_out = [block for i, block in enumerate(blocks) if i % HELD_OUT_BLOCK == 0]
    return train, held_out


def triples(folder: Path) -> tuple[list[Triple], list[Triple], list[Triple]]:
    """The instruction triples: (train, held-out rows of other instructions, all rows of held-out instructions).

    The corpus is the file instruct.jsonl.gz of a folder, with one triple in each row. About one instruction in twenty,
    chosen by its digest, is held out with all its rows. Of the other instructions, about one row in fifty is held out,
    chosen by the digest of instruction and input. A row without an instruction or without an output is left out.
    """
    train, held_rows, held_instructions = [], [], []
    # splitlines() would also split at U+2028 and similar characters, which JSON leaves unescaped inside the rows.
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
    """(the prompt, the answer that the model should continue it with), in the form of the Self-Instruct evaluation.

    The answer begins with the white space that separates it from the prompt. A prompt with an input ends in "Output:".
    An instruction without input is the whole prompt in half of the cases, as in the paper's prompts; in the other half
    "Output:" follows it. An instruction with input stands behind its input in a quarter of the cases, and before it
    otherwise, so that a model cannot find instructions by their position. The digest of instruction and input decides.
    """
    quarter = _digest(triple.instruction + "\0" + triple.input + "\0order") % 4
    if not triple.input:
        if quarter < 2:
            return triple.instruction, "\n\n" + triple.output
        return f"{triple.instruction}\n\nOutput:", " " + triple.output
    if quarter == 0:
        return f"{triple.input}\n\n{triple.instruction}\n\nOutput:", " " + triple.output
    return f"{triple.instruction}\n\nInput: {triple.input}\n\nOutput:", " " + triple.output


def sampling_weights(rows: list[Triple], seed_task_share: float) -> list[float]:
    """The sampling weight of each row; they sum to 1 where there are both rows of seed tasks and other rows.

    All rows of seed tasks together get seed_task_share, and the other rows the rest. Within either group, the weight of
    a row is proportional to 1 / sqrt(n), where n is the number of rows with its instruction, counted over seed tasks
    and other rows together. An instruction whose n rows are all in one group has a weight proportional to sqrt(n) in
    that group. With equal weights, most rows would come from the 50 commonest templates, which are mainly yes/no
    questions. The bundled models were trained with these weights.
    """
    row_count: dict[str, int] = defaultdict(int)
    for row in rows:
        row_count[row.instruction] += 1
    weights = [row_count[row.instruction] ** -0.5 for row in rows]
    seed = [row.source == "seed_tasks" for row in rows]
    seed_total = sum(w for w, s in zip(weights, seed, strict=True) if s)
    other_total = sum(w for w, s in zip(weights, seed, strict=True) if not s)
    return [
        w / seed_total * seed_task_share if s else w / other_total * (1 - seed_task_share)
        for w, s in zip(weights, seed, strict=True)
    ]


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[:8], "big")

"""Writes a small made-up folder in the format of published explanations."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

BASE, TUNED = "plain_1b", "chatty_1b"


def pieces_of(text: str) -> list[str]:
    """SentencePiece-like pieces of ' ' + text.

    A word is a piece with the space before it, any other ASCII character is a piece by itself, and every other
    character is split into its bytes.
    """
    pieces: list[str] = []
    for character in " " + text:
        if not character.isascii():
            pieces += [f"<0x{byte:02X}>" for byte in character.encode("utf-8", "surrogatepass")]
        elif character == "\n":
            pieces.append("<0x0A>")
        elif character.isalpha() and pieces and (pieces[-1][-1].isalpha() or pieces[-1] == "▁"):
            pieces[-1] += character
        else:
            pieces.append("▁" if character == " " else character)
    return pieces


def levels(prompt_pieces: int, response_pieces: int, instruction: slice, strength: float, seed: int) -> np.ndarray:
    """level_PR that is high in the rows of the instruction, in a share `strength` of the response's columns."""
    draw = np.random.default_rng(seed)
    level_PR = draw.integers(0, 8, (prompt_pieces, response_pieces))
    level_PR[-1:] = 10
    high = draw.random(level_PR[instruction].shape) < strength
    level_PR[instruction] = np.where(high, 9, level_PR[instruction])
    return level_PR


def maps(rows: list[tuple[str, list[str], list[str], np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays of an .npz file. rows: (prompt id, prompt pieces, response pieces, level_PR) of each map."""
    vocabulary = list(dict.fromkeys(piece for _, prompt, response, _ in rows for piece in (*prompt, *response)))
    index = {piece: i for i, piece in enumerate(vocabulary)}
    cells = np.concatenate([np.zeros(0, np.uint8), *(level.ravel().astype(np.uint8) for *_, level in rows)])
    padded = np.append(cells, np.zeros(len(cells) % 2, np.uint8))

    def offsets(sizes: list[int]) -> np.ndarray:
        return np.cumsum([0, *sizes], dtype=np.int64)

    def text(words: list[str]) -> np.ndarray:
        return np.frombuffer("\n".join(words).encode(), np.uint8)

    return {
        "ids": text([name for name, *_ in rows]),
        "vocab": text(vocabulary),
        "input_ids": np.array([index[p] for _, prompt, _, _ in rows for p in prompt], np.uint16),
        "output_ids": np.array([index[p] for _, _, response, _ in rows for p in response], np.uint16),
        "input_offsets": offsets([len(prompt) for _, prompt, _, _ in rows]),
        "output_offsets": offsets([len(response) for _, _, response, _ in rows]),
        "explain_offsets": offsets([level.size for *_, level in rows]),
        "explain_nibbles": padded[0::2] | padded[1::2] << 4,
    }


def prompt_rows(count: int = 24, dataset: str = "made") -> list[dict]:
    """Prompts of an instruction, 'Write about topic ... now.', and an input."""
    rows = []
    for i in range(count):
        instruction = f"Write about topic {chr(97 + i % 26)} é now."
        prompt = f"{instruction}\n\nInput: some words to use\n\nOutput:"
        rows.append(
            {"id": f"{dataset}_{i}", "dataset": dataset, "prompt": prompt, "instruction": [[0, len(instruction)]]}
        )
    return rows


def model_rows(prompts: list[dict], strength, response: int, seed: int) -> list[tuple]:
    """A map for each prompt. strength: as of `levels`, a number or a function of the prompt's index."""
    rows = []
    for i, row in enumerate(prompts):
        pieces = pieces_of(row["prompt"])
        stop = len(pieces_of(row["prompt"][: row["instruction"][0][1]])) if row["instruction"] else 1
        share = strength(i) if callable(strength) else strength
        level_PR = levels(len(pieces), response, slice(0, stop), share, seed * 1000 + i)
        rows.append((row["id"], pieces, ["▁word"] * response, level_PR))
    return rows


def write_folder(folder: Path, prompts: list[dict] | None = None, tuned=None, base=None, ratings=None) -> Path:
    """A folder in which tuned recognises the instruction more than base, most of all in followed responses."""
    prompts = prompt_rows() if prompts is None else prompts
    folder.mkdir(parents=True, exist_ok=True)
    tuned = tuned or model_rows(prompts, lambda i: 0.3 if i % 3 == 0 else 0.8, 30, 1)
    base = base or model_rows(prompts, 0.2, 40, 2)
    for name, rows in ((BASE, base), (TUNED, tuned)):
        np.savez(folder / f"attribution_{name}.npz", **maps(rows))
    if ratings is None:
        ratings = [
            {"id": row["id"], "model": TUNED, "rating": 1 if i % 3 == 0 else 2 + i % 3} for i, row in enumerate(prompts)
        ]
    write_lines(folder / "prompts.jsonl", prompts)
    write_lines(folder / "ratings.jsonl", ratings)
    return folder


def write_lines(path: Path, rows: list) -> None:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))

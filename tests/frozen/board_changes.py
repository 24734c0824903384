"""What issue 19 changed on leaderboards on purpose: a column is a claim with its verdict, and no longer a finding."""

from __future__ import annotations

from typing import Any

WHY = "issue 19: a board's columns are claims with their verdicts (CHANGELOG, Unreleased)"
PARTS = ("verdict", "rank", "rank_last", "headline", "value", "low", "high", "n", "p_uncorrected", "p_board")
CLAIMS = (
    ("instruction_recognition", "recognition", "Recognises the instruction"),
    ("instruction_recognition.prompt_density_rise", "prompt_density_rise", "Leans more on the whole prompt"),
    ("instruction_verbs", "verbs_over_null", "Heads encode instruction verbs"),
    ("concept_rotation", "none_share_fall_over_null", "Concepts moved toward user tasks"),
    ("instruction_position", "recognition_last", "Recognises an instruction at the end"),
    ("key_part_gain", "key_gain", "Depends on the key parts of the instruction"),
)
CHECKS = (
    ("attribution_faithfulness", "tuned_comprehensiveness_over_random", "Attribution faithfulness"),
    ("followed_instructions", "followed_recognition", "Followed instructions"),
)


def today(recorded: dict[str, Any]) -> dict[str, Any]:
    """The section `leaderboard` of today. recorded: that of the recorded commit."""
    columns = [*((*claim, True) for claim in CLAIMS), *((*check, False) for check in CHECKS)]
    before = recorded["columns of leaderboard.csv"]
    parts = [f"{key}.{part}" for key, *_ in columns for part in PARTS]
    labels = [label if claim else f"{label} (a check)" for _, _, label, claim in columns]
    return {
        **recorded,
        "columns of leaderboard.csv": [*before[:5], *parts, *before[-7:]],
        "columns of leaderboard.md": [*recorded["columns of leaderboard.md"][:3], *labels, "flags |"],
        "keys of leaderboard.json": sorted([*recorded["keys of leaderboard.json"], "correction", "groups", "title"]),
        "schema": "shiftbench/leaderboard/2",
        "keys of a row": sorted([*recorded["keys of a row"], "verdicts"]),
        "columns of leaderboard.json": [
            {
                "column": key, "finding": key.partition(".")[0], "headline": headline, "label": label, "claim": claim,
                "check": not claim,
            }
            for key, headline, label, claim in columns
        ],
        "setting that rows share": sorted([*recorded["setting that rows share"], "control"]),
    }  # fmt: skip

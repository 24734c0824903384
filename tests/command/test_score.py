"""What `shiftbench score` promises: its files, its output, its use of the store, and sweeps."""

import csv
import json
import shutil
from pathlib import Path

import jsonschema
import pytest
import torch
import yaml
from mlflow import MlflowClient
from transformers import AutoModelForCausalLM, AutoTokenizer

import shiftbench as package
from shiftbench.results.document import without_circumstances
from tests.command.conftest import arguments, scores

pytestmark = pytest.mark.whole

SCHEMA = json.loads((Path(package.__file__).parent / "schema" / "scores.schema.json").read_text())


def test_a_job_writes_the_promised_files_and_prints_the_reports_path_last(shiftbench, job_options):
    ran = shiftbench(*arguments(job_options))
    out = Path(job_options["out"])
    assert ran.code == 0, ran.err
    assert ran.out.rstrip().splitlines()[-1] == f"report: {out / 'report.html'}"
    document = scores(out)
    jsonschema.validate(document, SCHEMA)
    assert {s["finding"] for s in document["scores"]} == {
        "instruction_recognition", "instruction_verbs", "concept_rotation", "attribution_faithfulness",
    }  # fmt: skip
    assert (out / "report.html").stat().st_size > 10_000
    tables = {path.name for path in (out / "tables").iterdir()}
    assert {
        "instruction_recognition.table2.csv",
        "instruction_verbs.table3.csv",
        "concept_rotation.table5.csv",
    } <= tables
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["pair"]["base"] == job_options["pair.base"] and config["response"]["max_new_tokens"] == 6
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == [".tracked.json"]


def test_the_answer_has_at_most_twenty_lines_and_no_stage_is_printed_twice(shiftbench, job_options):
    ran = shiftbench(*arguments(job_options, vectors="auto"))
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    claims = [line for line in lines if line[:2] in ("+ ", "- ", "? ", "! ", "  ") and line[2:3].isalpha()]
    assert len(claims) == 4 == len(scores(job_options["out"])["verdicts"]) and len(lines) <= 20, ran.out
    assert all(len(line) <= 80 for line in lines if not line.startswith(("next: ", "report: ")))
    assert not [line for line in lines if line != line.rstrip()]
    stages = [line.partition(": ")[0] for line in ran.err.splitlines() if " explained" in line]
    assert stages and len(stages) == len(set(stages)) and "0 explained" not in ran.err


def test_the_table_of_all_scores_is_verbose(shiftbench, job_options):
    brief = shiftbench(*arguments(job_options))
    long = shiftbench(*arguments(job_options, verbose="true"))
    rows = {score["name"] for score in scores(job_options["out"])["scores"]}
    assert all(name in long.out for name in rows) and "context_density_fall" not in brief.out
    answer, following = brief.out.split("\nnext: ")[:2]
    assert f"\n{answer}\nnext: " in long.out and following, "the answer comes last"


def test_json_prints_scores_json_and_nothing_else(shiftbench, job_options, tmp_path):
    tracked = {"tracking": "mlflow", "tracking.uri": f"sqlite:///{tmp_path / 'mlflow.db'}"}
    ran = shiftbench(*arguments(job_options, json="true", **tracked))
    assert ran.code == 0 and ran.out == (Path(job_options["out"]) / "scores.json").read_text(encoding="utf-8")
    document = json.loads(ran.out)
    jsonschema.validate(document, SCHEMA)
    assert len(document["mlflow_run"]) == 32 and "attribution of shared responses, base: 6 explained" in ran.err
    shiftbench(*arguments(job_options))
    assert scores(job_options["out"])["mlflow_run"] is None, "nothing is tracked"


@pytest.mark.parametrize("more", [["-m"], ["verbose=true"], ["dry_run=true"]])
def test_json_is_refused_where_more_is_printed(shiftbench, job_options, more):
    ran = shiftbench(*arguments(job_options, json="true"), *more)
    assert ran.code == 2 and ran.out == "" and "json=true prints" in ran.err and not Path(job_options["out"]).exists()


def test_a_sweep_prints_a_line_with_the_verdicts_of_each_job_and_is_tracked(shiftbench, job_options, tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    words = arguments(job_options, seed="0,1", **{"tracking": "mlflow", "tracking.uri": uri})
    ran = shiftbench(*words, "-m")
    assert ran.code == 0, ran.err
    folders = sorted(path.parent for path in Path(job_options["out"]).glob("*/scores.json"))
    lines = {line.split("  ")[0]: line for line in ran.out.splitlines()}
    for folder in folders:
        words_of_verdicts = {verdict["verdict"] for verdict in scores(folder)["verdicts"].values()}
        assert all(f"{word}: " in lines[folder.name] for word in words_of_verdicts)
    done = [line for line in ran.err.splitlines() if ": done in" in line]
    assert len(done) == 2 and all("not trustworthy: instruction recognition" in line for line in done)
    client = MlflowClient(tracking_uri=uri)
    runs = client.search_runs([client.get_experiment_by_name("shiftbench").experiment_id])
    statuses = {run.info.run_id: run.info.status for run in runs}
    assert set(statuses.values()) == {"FINISHED"} and len(statuses) == 3
    assert {scores(folder)["mlflow_run"] for folder in folders} < set(statuses)
    again = shiftbench(*words, "-m")
    assert "2 of 2 jobs are done already" in again.err, "the id in scores.json is no change of the results"


def test_a_second_run_explains_nothing_and_gives_the_same_numbers(shiftbench, job_options):
    first = shiftbench(*arguments(job_options, verbose="true"))
    before = (Path(job_options["out"]) / "scores.json").read_bytes()
    second = shiftbench(*arguments(job_options, verbose="true", out=job_options["out"] + "2"))
    assert "explained 0 units anew" not in first.out and "explained 0 units anew" in second.out
    again = (Path(job_options["out"] + "2") / "scores.json").read_bytes().replace(b"out2", b"out")
    assert without_circumstances(again) == without_circumstances(before)
    assert second.err == "", "no stage computed anything"


def test_less_memory_gives_the_same_numbers(shiftbench, job_options, tmp_path):
    shiftbench(*arguments(job_options))
    changed = {"findings.instruction_recognition.explain.memory": "1", "store.path": str(tmp_path / "elsewhere")}
    shiftbench(*arguments(job_options, out=job_options["out"] + "2", **changed))
    for one, two in zip(scores(job_options["out"])["scores"], scores(job_options["out"] + "2")["scores"], strict=True):
        assert one["name"] == two["name"] and one["n"] == two["n"]
        assert one["value"] == pytest.approx(two["value"], abs=1e-6)


def test_a_model_against_itself_scores_exactly_zero(shiftbench, job_options):
    ran = shiftbench(*arguments(job_options, pair__tuned=job_options["pair.base"]))
    assert ran.code == 0, ran.err
    found = scores(job_options["out"])["scores"]
    for score in found:
        # The first measures attributions, the second labels of random directions, and neither a change.
        if score["finding"] != "attribution_faithfulness" and score["name"] != "random_label_share":
            assert (score["value"], score["low"], score["high"], score["p"], score["n"]) == (0, 0, 0, None, 0), score
    level = {score["name"]: score["value"] for score in found if score["finding"] == "attribution_faithfulness"}
    assert all(level[f"base_{name[6:]}"] == value for name, value in level.items() if name.startswith("tuned_"))


def test_attributions_no_better_than_random_are_flagged_and_noted(shiftbench, job_options):
    """The tiny pair is untrained, so its attributions find no important tokens.

    Each model is flagged once, and only one response mode is checked.
    """
    ran = shiftbench(*arguments(job_options, control="gaussian", control__draws="1"))
    assert ran.code == 0, ran.err
    document = scores(job_options["out"])
    jsonschema.validate(document, SCHEMA)
    rows = {s["name"]: s for s in document["scores"] if s["finding"] == "attribution_faithfulness"}
    assert len(rows) == 8 and not any("over_null" in name or "own_response" in name for name in rows)
    flagged = ["base", "tuned"]  # with six prompts, no method is shown to be faithful
    assert document["pair"]["flags"] == ",".join(f"unfaithful:{model}" for model in flagged)
    report = (Path(job_options["out"]) / "report.html").read_text(encoding="utf-8")
    for model in flagged:
        assert any(note.startswith(f"unfaithful:{model}: ") for note in document["notes"])
        assert f"unfaithful:{model}: " in report
    assert "faithfulness of shared responses, base" in ran.err and "of own responses, base" in ran.err
    assert "faithfulness of own" not in ran.err and "faithfulness of shared responses, gaussian" not in ran.err


@pytest.mark.parametrize("mode", ["shared", "own", "reference"])
def test_every_response_mode_runs(shiftbench, job_options, folders, tmp_path, mode):
    rows = [json.loads(line) for line in (folders / "prompts.jsonl").read_text().split("\n")[:-1]]
    path = tmp_path / "with_response.jsonl"
    path.write_text("".join(json.dumps({**row, "response": " the answer"}) + "\n" for row in rows))
    ran = shiftbench(*arguments(job_options, dataset__path=str(path), response__mode=mode, response__beside="null"))
    assert ran.code == 0, ran.err
    assert [s["n"] for s in scores(job_options["out"])["scores"] if s["name"] == "recognition"] == [6]


def test_prompts_that_are_too_long_are_listed_and_not_cut(shiftbench, job_options, folders, tmp_path):
    rows = (folders / "prompts.jsonl").read_text()
    long = {"id": "too_long", "prompt": "word " * 400, "instruction": [[0, 4]]}
    silent = {"id": "silent", "prompt": "no task here", "instruction": []}
    path = tmp_path / "long.jsonl"
    path.write_text(rows + json.dumps(long) + "\n" + json.dumps(silent) + "\n")
    ran = shiftbench(*arguments(job_options, dataset__path=str(path)))
    assert ran.code == 0, ran.err
    notes = " ".join(scores(job_options["out"])["notes"])
    assert "too_long" in notes and "1 prompts" in notes
    assert "no instruction span" in notes
    assert [s["n"] for s in scores(job_options["out"])["scores"] if s["name"] == "recognition"] == [6]


def test_a_sweep_finishes_the_jobs_beside_a_failed_one_and_names_it(shiftbench, job_options, tmp_path):
    bad = str(tmp_path / "nowhere")
    changed = arguments(job_options, pair__tuned=f"{bad},{job_options['pair.tuned']}")
    ran = shiftbench(*changed, "-m")
    assert ran.code == 2
    assert "failed" in ran.err.rstrip().splitlines()[-1] and "nowhere" in ran.err.rstrip().splitlines()[-1]
    written = list(Path(job_options["out"]).glob("*/scores.json"))
    assert len(written) == 1


def test_a_dry_run_explains_nothing_and_prints_an_estimate(shiftbench, job_options):
    ran = shiftbench(*arguments(job_options, dry_run="true"))
    assert ran.code == 0, ran.err
    assert "estimated time" in ran.out and "estimated memory" in ran.out and "estimated disk" in ran.out
    assert not Path(job_options["out"]).exists()


TEMPLATE = "{% for m in messages %}User: {{ m['content'] }}\n{% endfor %}Assistant:"


@pytest.mark.parametrize("template", ["tuned", "own"])
def test_a_chat_template_surrounds_the_prompt_and_no_span(shiftbench, job_options, folders, tmp_path, template):
    for name in ("base", "tuned"):
        shutil.copytree(folders / name, tmp_path / name)
        (tmp_path / name / "chat_template.jinja").write_text(TEMPLATE)
    models = {"pair.base": str(tmp_path / "base"), "pair.tuned": str(tmp_path / "tuned")}
    bare = shiftbench(*arguments(job_options))
    templated = shiftbench(*arguments(job_options, out=job_options["out"] + "2", template=template, **models))
    assert bare.code == templated.code == 0, templated.err
    lengths = [tokens_of(job_options["out"] + end) for end in ("", "2")]
    assert all(longer > shorter for shorter, longer in zip(*lengths, strict=True))


def tokens_of(out):
    """The number of tokens of each prompt, from the results in a folder."""
    rows = csv.DictReader((Path(out) / "tables" / "instruction_recognition.prompts.csv").open(encoding="utf-8-sig"))
    return [int(row["prompt_tokens"]) for row in rows]


def test_a_template_that_is_not_there_is_refused(shiftbench, job_options):
    ran = shiftbench(*arguments(job_options, template="tuned"))
    assert ran.code == 2 and "no chat template" in ran.err


def test_help_and_version(shiftbench):
    assert "score" in shiftbench("--help").out
    text = shiftbench("score", "--help").out
    assert "pair=" in text and "mistral" in text and "response" in text
    assert shiftbench("--version").out.startswith("shiftbench ")
    assert "prune" in shiftbench("store", "--help").out


def test_a_sweep_leaves_no_password_behind(shiftbench, job_options, tmp_path):
    uri = "postgresql://user:hunter2@127.0.0.1:1/none"
    shiftbench(
        *arguments(job_options, dry_run="true", **{"tracking": "mlflow", "tracking.uri": uri, "seed": "0,1"}), "-m"
    )
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]


def test_jobs_that_differ_in_a_group_or_a_value_have_folders_of_their_own(shiftbench, job_options):
    ran = shiftbench(*arguments(job_options, vectors="model,auto", seed="0,1"), "-m")
    assert ran.code == 0, ran.err
    names = {path.parent.name for path in Path(job_options["out"]).glob("*/scores.json")}
    [pair] = {name.split(",")[0] for name in names}
    assert pair.startswith("base-tuned-")
    assert names == {f"{pair},vectors={vectors},seed={seed}" for vectors in ("model", "auto") for seed in (0, 1)}


def test_files_of_an_earlier_run_are_not_among_this_runs_results(shiftbench, job_options):
    shiftbench(*arguments(job_options))
    assert list((Path(job_options["out"]) / "tables").glob("*own_response*"))
    shiftbench(*arguments(job_options, response__beside="null"))
    assert not list((Path(job_options["out"]) / "tables").glob("*own_response*"))
    assert (Path(job_options["out"]) / "tables" / "instruction_recognition.table2.csv").exists()


def test_a_response_token_that_base_cannot_read_leaves_its_prompt_out(shiftbench, job_options, folders, tmp_path):
    """The tuned model generates a token that tuning added, for which base has no embedding."""
    module = AutoModelForCausalLM.from_pretrained(folders / "tuned", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folders / "tuned")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|extra|>"]})
    rows = module.get_input_embeddings().weight.shape[0]
    module.resize_token_embeddings(rows + 8)
    # The output rows of the new tokens are so large that some prompt's most likely token is one of them.
    with torch.no_grad():
        module.get_output_embeddings().weight[rows:] = 50 * module.get_output_embeddings().weight[:8]
    module.save_pretrained(tmp_path / "wide")
    tokenizer.save_pretrained(tmp_path / "wide")
    changed = {"pair__tuned": str(tmp_path / "wide")}
    ran = shiftbench(*arguments(job_options, **changed, response__beside="null"))
    assert (
        ran.code == 2 and "no embedding for and were left out: q0, q1" in ran.err
    )  # all prompts are left out, so there is no score
    ran = shiftbench(*arguments(job_options, **changed, response__mode="own", response__beside="shared"))
    assert ran.code == 0, ran.err
    assert "Nothing is reported on shared responses: no response is left" in " ".join(
        scores(job_options["out"])["notes"]
    )

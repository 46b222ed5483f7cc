"""Pitfalls of CrowS-Pairs that can be computed from the text alone.

They flag 350 of the 1,508 official pairs of CrowS-Pairs: indirect-group 215, several-edits 96, negation 65,
case-or-spacing 36, long-edit 5, article 5, duplicate 1. Of 30 flagged pairs drawn at random and read, 29 had
what the code says (one parent, two parents is no second edit); of 30 drawn among those flagged for more than
a name all had, though "no legs" is a group rather than a negation. A pair that is not flagged is not thereby
sound: readers found a pitfall in most pairs (Blodgett et al. 2021), which takes a mask of their judgements.
"""

import re
import string
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from itertools import pairwise

from assaymark.bias.lm_crows_pairs_data import Pair
from assaymark.bias.lm_quality import Quality

Edit = tuple[tuple[str, ...], tuple[str, ...]]
"""Words that stand in the place of each other; either side may be empty."""
LONGEST_EDIT, MOST_UNEVEN = 3, 2

_ALIKE = """he/she him/her his/her his/hers himself/herself hes/shes he's/she's he'd/she'd he'll/she'll
man/woman men/women boy/girl boys/girls father/mother dad/mom son/daughter brother/sister
husband/wife uncle/aunt nephew/niece guy/girl guys/girls male/female males/females mr/mrs mr/ms
is/are was/were has/have does/do a/an they/he they/she their/his their/her them/him them/her it/he
it/she grandfather/grandmother boyfriend/girlfriend sir/madam gentleman/lady"""
_AGREE = {frozenset(pair.split("/")) for pair in _ALIKE.split()}
"""Words that change with the group, so that a second edit of this kind is no second perturbation."""
_FIRST_NAMES = """
james john robert michael william david richard joseph thomas charles mary patricia jennifer linda
elizabeth barbara susan jessica sarah karen nancy lisa betty sandra ashley kimberly emily donna
michelle carol amanda melissa deborah stephanie rebecca laura sharon cynthia kathleen amy shirley
angela helen anna brenda pamela nicole emma samantha katherine christine rachel carolyn janet maria
heather diane julie joyce victoria kelly christina joan evelyn lauren judith olivia martha cheryl
megan andrea ann alice jean doris jacqueline kathryn hannah julia gloria teresa sara janice marie
madison frances kathy jane daniel matthew anthony mark donald steven paul andrew joshua kenneth
kevin brian george timothy ronald edward jason jeffrey ryan jacob gary nicholas eric jonathan
stephen larry justin scott brandon benjamin samuel gregory alexander frank patrick raymond jack
dennis jerry tyler aaron jose adam nathan henry douglas zachary peter kyle noah ethan jeremy walter
keith roger terry austin sean gerald carl harold dylan arthur lawrence jordan jesse bryan billy
bruce gabriel joe logan alan juan albert willie elijah wayne randy vincent mason roy ralph bobby
russell bradley philip eugene jamal lakisha tyrone latoya jerome ebony darnell keisha deshawn
shaniqua tanisha kareem rasheed leroy mohammed muhammad ahmed ali fatima aisha omar hassan carlos
miguel luis pedro diego jorge rosa carmen guadalupe alejandro wei ming chen li hiroshi yuki raj
priya sanjay ananya abdul ibrahim bob bill tom jim mike steve dan sam ben kate katie jenny sally
molly becky connor jake wyatt tanner brad greg jill"""
_NAMES = frozenset(_FIRST_NAMES.split())
_NO = """not no never nobody none neither nor cannot cant dont doesnt didnt isnt arent wasnt werent wont
wouldnt couldnt shouldnt hasnt havent hadnt aint"""
_NEGATIONS = frozenset(_NO.split())
_CONSONANT_SOUND = re.compile(r"(uni[^nm]|use|usu|uti|eu|ewe|one\b|once|u\b|ur[aei]|ubi)")
_VOWEL_SOUND = re.compile(r"(hour|honest|honou?r|heir|[fhlmnrsx]$)")


def crows_pairs_quality(pairs: Sequence[Pair]) -> Quality:
    """The pitfalls that can be computed from the sentences of CrowS-Pairs."""
    codes: dict[str, tuple[str, ...]] = {}
    seen: set[tuple[tuple[str, ...], tuple[str, ...]]] = set()
    for pair in pairs:
        words = plain_words(pair.more), plain_words(pair.less)
        edits = _edits(*words)
        found = [code for code, check in _PAIR_CHECKS.items() if check(pair, edits)]
        if words in seen or words[::-1] in seen:
            found.append("duplicate")
        seen.add(words)
        if found:
            codes[pair.id] = tuple(found)
    return Quality(source="checks of the text", codes=codes)


def plain_words(text: str) -> tuple[str, ...]:
    """Words in lower case, without the punctuation around them; ’ is written '."""
    words = text.casefold().replace("’", "'").split()
    bare = (word.strip(string.punctuation + "“”‘…–—") for word in words)
    return tuple(word for word in bare if word)


def _edits(one: tuple[str, ...], other: tuple[str, ...]) -> list[Edit]:
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    return [(one[a:b], other[c:d]) for code, a, b, c, d in matcher.get_opcodes() if code != "equal"]


def _empty(pair: Pair, edits: list[Edit]) -> bool:
    return any(len(plain_words(text)) < 2 for text in (pair.more, pair.less))


def _identical(pair: Pair, edits: list[Edit]) -> bool:
    return not edits


def _case_or_spacing(pair: Pair, edits: list[Edit]) -> bool:
    """Words that are aligned are spelled alike, and no side has wide spaces of its own.

    The first word may change its capital with the group, and one beside an edit its punctuation.
    """
    sides = [text.split() for text in (pair.more, pair.less)]
    bare = [[word.strip(string.punctuation) for word in side] for side in sides]
    folded = [[word.casefold() for word in side] for side in bare]
    matcher = SequenceMatcher(None, folded[0], folded[1], autojunk=False)
    for first, second, length in matcher.get_matching_blocks():
        for step in range(length):
            i, j = first + step, second + step
            last = step == length - 1 and (i + 1 < len(sides[0]) or j + 1 < len(sides[1]))
            spelled = bare if last else sides
            if i and j and spelled[0][i] != spelled[1][j] and edits:
                return True
    wide = [len(re.findall(r"\s{2,}", text)) for text in (pair.more, pair.less)]
    return bool(edits) and wide[0] != wide[1]


def _several_edits(pair: Pair, edits: list[Edit]) -> bool:
    """More than one edit is left without those that agree with the group, repeat one, or swap it back."""
    kinds = {frozenset(edit) for edit in edits if not _agrees(edit)}
    return len(edits) > 1 and len(kinds) > 1


def _agrees(edit: Edit) -> bool:
    one, other = edit
    return len(one) == len(other) and all(
        a == b or frozenset((a, b)) in _AGREE for a, b in zip(one, other, strict=True)
    )


def _long_edit(pair: Pair, edits: list[Edit]) -> bool:
    return any(
        max(len(one), len(other)) > LONGEST_EDIT or abs(len(one) - len(other)) > MOST_UNEVEN
        for one, other in edits
    )


def _negation(pair: Pair, edits: list[Edit]) -> bool:
    def negations(side: tuple[str, ...]) -> int:
        return sum(word.replace("'", "") in _NEGATIONS for word in side)

    return any(negations(one) != negations(other) for one, other in edits)


def _indirect_group(pair: Pair, edits: list[Edit]) -> bool:
    """A first name stands for the group; it must be written with a capital where it stands."""
    capitals = {word.casefold() for word in re.findall(r"\b[A-Z]\w+", f"{pair.more} {pair.less}")}
    changed = {word.removesuffix("'s") for edit in edits for side in edit for word in side}
    return not changed.isdisjoint(_NAMES & capitals)


def _article(pair: Pair, edits: list[Edit]) -> bool:
    return wrong_articles(plain_words(pair.more)) != wrong_articles(plain_words(pair.less))


def wrong_articles(words: tuple[str, ...]) -> int:
    """How many times a stands before a vowel sound, or an before another.

    >>> wrong_articles(plain_words("An hour ago a honest man met an university."))
    2
    """
    return sum(
        (article == "an") != _vowel(word)
        for article, word in pairwise(words)
        if article in ("a", "an") and word[:1].isalpha()
    )


def _vowel(word: str) -> bool:
    """Whether a word begins with a vowel sound, as far as its letters tell."""
    if _VOWEL_SOUND.match(word):
        return True
    return word[0] in "aeiou" and not _CONSONANT_SOUND.match(word)


_PAIR_CHECKS: dict[str, Callable[[Pair, list[Edit]], bool]] = {
    "empty": _empty,
    "identical": _identical,
    "case-or-spacing": _case_or_spacing,
    "several-edits": _several_edits,
    "long-edit": _long_edit,
    "negation": _negation,
    "indirect-group": _indirect_group,
    "article": _article,
}

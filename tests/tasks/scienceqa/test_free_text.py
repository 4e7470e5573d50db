"""Protects the reading of answers as people and models write them: each text, its right choice."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ademvl.data.choices import NO_ANSWER
from ademvl.tasks.scienceqa.answer_text import without_reasoning
from ademvl.tasks.scienceqa.free_text import read_choice

NONE = NO_ANSWER
COLOURS = ("red", "green", "blue", "yellow")
GERMS = ("E. coli", "B. subtilis", "A. baumannii")
ANIMALS = ("a mouse", "a dog", "a horse", "a cow")
YES_NO = ("yes", "no")
NUMBERS = ("2", "4", "6")
TITLES = ("A breath of Fresh Air", "A Breath of Fresh Air")
SAMPLES = ("sample A", "sample B")
BARE = ("B", "A")
PHRASES = ("A bag of beans.", "In summer, insects always fly around the pond.")

TABLE = [
    # a letter alone
    ("B", COLOURS, 1, "exact_letter"),
    (" B ", COLOURS, 1, "exact_letter"),
    ("(B)", COLOURS, 1, "exact_letter"),
    ("B.", COLOURS, 1, "exact_letter"),
    ("B)", COLOURS, 1, "exact_letter"),
    ("[B]", COLOURS, 1, "exact_letter"),
    ('"B"', COLOURS, 1, "exact_letter"),
    ("**B**", COLOURS, 1, "exact_letter"),
    ("**(B)**.", COLOURS, 1, "exact_letter"),
    ("`B`", COLOURS, 1, "exact_letter"),
    ("$B$", COLOURS, 1, "exact_letter"),
    ("$\\text{B}$", COLOURS, 1, "exact_letter"),
    ("b", COLOURS, 1, "exact_letter"),
    ("- B", COLOURS, 1, "exact_letter"),
    ("B?", COLOURS, 1, "exact_letter"),
    ("<b>B</b>", COLOURS, 1, "exact_letter"),
    ("(b)", COLOURS, 1, "exact_letter"),
    ("\uff22", COLOURS, 1, "exact_letter"),
    ("Option B", COLOURS, 1, "exact_letter"),
    ("Choice (B).", COLOURS, 1, "exact_letter"),
    ("B</s>", COLOURS, 1, "exact_letter"),
    ("B<|im_end|>", COLOURS, 1, "exact_letter"),
    ("\ufeffB\n\n", COLOURS, 1, "exact_letter"),
    ("B", BARE, 1, "exact_letter"),
    ("E", COLOURS, NONE, "undecided"),
    ("FAILED", COLOURS, NONE, "unread"),
    # a choice's own words
    ("green", COLOURS, 1, "own_words"),
    ("Green.", COLOURS, 1, "own_words"),
    ('"green"', COLOURS, 1, "own_words"),
    ("**Green**", COLOURS, 1, "own_words"),
    ("E. coli", GERMS, 0, "own_words"),
    ("B. subtilis", GERMS, 1, "own_words"),
    ("A. baumannii", GERMS, 2, "own_words"),
    ("a. baumannii", GERMS, 2, "own_words"),
    ("A breath of Fresh Air", TITLES, 0, "own_words"),
    ("A Breath of Fresh Air", TITLES, 1, "own_words"),
    ("a breath of fresh air", TITLES, NONE, "unread"),
    ("A bag of beans", PHRASES, 0, "own_words"),
    ("sample B", SAMPLES, 1, "own_words"),
    ("4", NUMBERS, 1, "own_words"),
    ('"Pigs Is Pigs"', ("Pigs Is Pigs", '"Pigs Is Pigs"'), 1, "own_words"),
    ("no", YES_NO, 1, "own_words"),
    ("C", ("G", "C", "T"), 2, "exact_letter"),
    ("G", ("G", "C", "T"), 0, "own_words"),
    # a letter and its words
    ("B. green", COLOURS, 1, "letter_and_words"),
    ("(B) green", COLOURS, 1, "letter_and_words"),
    ("B) Green.", COLOURS, 1, "letter_and_words"),
    ("B: green", COLOURS, 1, "letter_and_words"),
    ("b. green", COLOURS, 1, "letter_and_words"),
    ("**B.** green", COLOURS, 1, "letter_and_words"),
    ("(C) A. baumannii", GERMS, 2, "letter_and_words"),
    ("B. no", YES_NO, 1, "letter_and_words"),
    ("B (green)", COLOURS, 1, "letter_and_words"),
    ("B green", COLOURS, 1, "letter_and_words"),
    ("Option B: green", COLOURS, 1, "letter_and_words"),
    # statements
    ("Final answer: B", COLOURS, 1, "statement"),
    ("**Final Answer: B**", COLOURS, 1, "statement"),
    ("**Final Answer:** (B)", COLOURS, 1, "statement"),
    ("### Final Answer\n\nB", COLOURS, 1, "statement"),
    ("Answer: (b)", COLOURS, 1, "exact_letter"),
    ("Answer:\nB", COLOURS, 1, "exact_letter"),
    ("ans: B", COLOURS, 1, "statement"),
    ("ANSWER: B", COLOURS, 1, "exact_letter"),
    ("The answer is B.", COLOURS, 1, "statement"),
    ("The answer is (B)", COLOURS, 1, "statement"),
    ("The answer is B. BECAUSE: red is for (A).", COLOURS, 1, "statement"),
    ("The correct answer is B.", COLOURS, 1, "statement"),
    ("The correct answer is: **B. green**", COLOURS, 1, "statement"),
    ("The correct answer is option B.", COLOURS, 1, "statement"),
    ("The correct option is (B).", COLOURS, 1, "statement"),
    ("The right choice is B", COLOURS, 1, "statement"),
    ("The best answer would be B.", COLOURS, 1, "statement"),
    ("The answer to this question is B.", COLOURS, 1, "statement"),
    ("The answer is clearly B.", COLOURS, 1, "statement"),
    ("Therefore, the answer must be \\boxed{B}.", COLOURS, 1, "statement"),
    ("$$\\boxed{\\text{B}}$$", COLOURS, 1, "statement"),
    ("So \\boxed{(B)} it is.", COLOURS, 1, "statement"),
    ("<answer>B</answer>", COLOURS, 1, "statement"),
    ('{"answer": "B"}', COLOURS, 1, "statement"),
    ("Option B is correct.", COLOURS, 1, "statement"),
    ("(B) is the correct answer.", COLOURS, 1, "statement"),
    ("B (green) is the right one: it is the best choice", COLOURS, 1, "statement"),
    ("B is correct because grass is green.", COLOURS, 1, "statement"),
    ("I would choose B.", COLOURS, 1, "statement"),
    ("I'd go with option (B).", COLOURS, 1, "statement"),
    ("It's B.", COLOURS, 1, "statement"),
    ("Grass is not red. Therefore, B.", COLOURS, 1, "statement"),
    ("The answer is green.", COLOURS, 1, "statement"),
    ("The answer is Green", COLOURS, 1, "statement"),
    ("The answer is A. baumannii.", GERMS, 2, "statement"),
    ("The correct answer is A. baumannii because it is one.", GERMS, 2, "statement"),
    ("The answer is a dog.", ANIMALS, 1, "statement"),
    ("The answer is A horse, the largest.", ANIMALS, 2, "statement"),
    ("The answer is a large animal.", ANIMALS, NONE, "unread"),
    ("The answer is sample B.", SAMPLES, 1, "statement"),
    ("The answer is the Bible.", ("Greek myths", "the Bible"), 1, "statement"),
    ("The answer is (A) false, as seen.", ("false", "true"), 0, "statement"),
    ("The answer is (A) red? No, (B) green.", COLOURS, NONE, "unread"),
    ("The answer is B.", BARE, 1, "statement"),
    ("答案是B。", COLOURS, 1, "statement"),
    ("答案：B", COLOURS, 1, "statement"),
    ("故选B", COLOURS, 1, "statement"),
    # a letter in a line or a sentence of its own
    ("B\nbecause grass is green, and (A) is wrong.", COLOURS, 1, "statement"),
    ("C\nExplanation: a horse is larger than a dog.", ANIMALS, 2, "statement"),
    ("Grass is green.\n\n**B**", COLOURS, 1, "statement"),
    ("A is wrong. C is wrong. B.", COLOURS, 1, "statement"),
    ("A\nB\nC\nD", COLOURS, NONE, "undecided"),
    # the last statement counts
    ("(A) is wrong. The answer is (B).", COLOURS, 1, "statement"),
    ("The answer is A. No, the answer is B.", COLOURS, 1, "statement"),
    ("A. red. Hmm, grass is green: the answer is B.", COLOURS, 1, "statement"),
    ("At first I thought the answer is A.\nFinal answer: B", COLOURS, 1, "statement"),
    ("The answer is B. The answer is not A.", COLOURS, 1, "statement"),
    ("A is correct? No. B is correct.", COLOURS, 1, "statement"),
    ("If A is correct, grass is red. The answer is B.", COLOURS, 1, "statement"),
    ("Answer: B\n\nQuestion: And the sky?\nAnswer: C", COLOURS, 1, "exact_letter"),
    ("Question: Grass?\nOptions: (A) red (B) green\nAnswer: B", COLOURS, 1, "statement"),
    ("A. red - wrong.\nB. green - right.\nSo the answer is B", COLOURS, 1, "statement"),
    ("Green is the correct answer, I think.", COLOURS, 1, "statement"),
    ("I think the answer is B", COLOURS, 1, "statement"),
    ("I don't think the answer is A. B is right.", COLOURS, 1, "statement"),
    ("Response: B", COLOURS, 1, "statement"),
    ("A: B", COLOURS, 1, "statement"),
    ("[Answer]: B", COLOURS, 1, "statement"),
    ("So A, B and C are wrong. D", COLOURS, 3, "statement"),
    ("The answer is not (A) red but (B) green.", COLOURS, 1, "statement"),
    ("If we choose A, grass is red. So B", COLOURS, 1, "statement"),
    ("Many people would choose A, but it is B.", COLOURS, 1, "statement"),
    ("Let me choose A at first. It fails. Final: B", COLOURS, 1, "statement"),
    ("Answer: I think it is B.", COLOURS, 1, "statement"),
    ("Answer: B\nIf A were the answer, grass would be red.", COLOURS, 1, "statement"),
    ("<think>A</think><final_answer>B</final_answer>", COLOURS, 1, "statement"),
    ("Not B but C", COLOURS, 2, "statement"),
    ("The answer is B or C? I would say C.", COLOURS, 2, "statement"),
    ("sample A is the correct answer", ("neither", "sample A", "sample B"), 1, "statement"),
    ("A Breath of Fresh Air is correct.", TITLES, 1, "statement"),
    ("B. green\n\nThe options are (A) red, (B) green, (C) blue.", COLOURS, 1, "statement"),
    ("B. green. The options are (A) red and (B) green.", COLOURS, 1, "leading_letter"),
    # what is rejected, and several choices
    ("not A", COLOURS, NONE, "unread"),
    ("A is wrong", COLOURS, NONE, "unread"),
    ("(A) is wrong.", COLOURS, NONE, "undecided"),
    ("A. is incorrect", COLOURS, NONE, "undecided"),
    ("The answer is not A.", COLOURS, NONE, "unread"),
    ("The answer is not A, but B.", COLOURS, 1, "statement"),
    ("It is not A, it is B.", COLOURS, 1, "statement"),
    ("The answer is B, not A.", COLOURS, 1, "statement"),
    ("The answer is B, A is wrong.", COLOURS, 1, "statement"),
    ("The answer is C, A and B are wrong.", COLOURS, 2, "statement"),
    ("The answer is A or B.", COLOURS, NONE, "undecided"),
    ("The answer is (A) and (B)", COLOURS, NONE, "undecided"),
    ("Answer: A/B", COLOURS, NONE, "undecided"),
    ("Answer: A, B", COLOURS, NONE, "undecided"),
    ("The answer is red or green.", COLOURS, NONE, "undecided"),
    ("The answer is A. Or: the answer is B.", COLOURS, NONE, "undecided"),
    ("The answer is E.", COLOURS, NONE, "undecided"),
    ("A or B", COLOURS, NONE, "undecided"),
    ("A. red B. green C. blue", COLOURS, NONE, "undecided"),
    ("(A) red\n(B) green", COLOURS, NONE, "undecided"),
    ("A. red\nB. green\nC. blue\nD. yellow", COLOURS, NONE, "undecided"),
    ("(A) red or (B) green", COLOURS, NONE, "undecided"),
    ("Neither A nor B is correct.", COLOURS, NONE, "unread"),
    ("None of them.", COLOURS, NONE, "unread"),
    ("I don't know", COLOURS, NONE, "unread"),
    ("Both", COLOURS, NONE, "unread"),
    ("Answer: I don't know", COLOURS, NONE, "unread"),
    ("The answer choices are A, B, C, D.", COLOURS, NONE, "unread"),
    ("The correct answer is none of the above", COLOURS, NONE, "unread"),
    ("If I choose A, grass is red.", COLOURS, NONE, "unread"),
    ("A? No. C? No.", COLOURS, NONE, "unread"),
    ("B or C", COLOURS, NONE, "undecided"),
    ("Options: (A) red (B) green (C) blue", COLOURS, NONE, "unread"),
    ("If the answer is A, grass is red.", COLOURS, NONE, "unread"),
    ("I don't think the answer is A.", COLOURS, NONE, "unread"),
    ("A and B are both wrong", COLOURS, NONE, "unread"),
    ("So A, B and C are wrong.", COLOURS, NONE, "unread"),
    ("So the answer is (C) blue or maybe (B)", COLOURS, NONE, "undecided"),
    ("A, B and C", COLOURS, NONE, "undecided"),
    ("A horse is large.", ("mouse", "dog", "horse"), NONE, "unread"),
    ("Vitamin B is healthy", COLOURS, NONE, "unread"),
    # beginnings
    ("B. Grass is green.", COLOURS, 1, "leading_letter"),
    ("B) since grass is that.", COLOURS, 1, "leading_letter"),
    ("B, because grass is green", COLOURS, 1, "leading_letter"),
    ("B because A is wrong", COLOURS, 1, "leading_letter"),
    ("B - it grows.", COLOURS, 1, "leading_letter"),
    ("A because it is", COLOURS, 0, "leading_letter"),
    ("Green, because it grows.", COLOURS, 1, "leading_words"),
    ("No. A stone does not grow.", YES_NO, 1, "leading_words"),
    ("A. baumannii, which is a germ", GERMS, 2, "leading_words"),
    # reasoning
    ("<think>First A: the answer is A. But no.</think>\nB", COLOURS, 1, "exact_letter"),
    ("<thinking>A</thinking>The answer is B.", COLOURS, 1, "statement"),
    ("<reasoning>\nA\n</reasoning>\n<answer>\nB\n</answer>", COLOURS, 1, "statement"),
    ("The answer is A, hm.</think>\n\nB", COLOURS, 1, "exact_letter"),
    ("B<think>or the answer is A</think>", COLOURS, 1, "exact_letter"),
    ("<think>The answer is A, so", COLOURS, NONE, "only_reasoning"),
    ("<think>a<think>b</think>the answer is A</think>B", COLOURS, 1, "exact_letter"),
    ("<THINK>A</THINK> green", COLOURS, 1, "own_words"),
    ("[THINK]A[/THINK]B", COLOURS, 1, "exact_letter"),
    ("◁think▷The answer is A◁/think▷B", COLOURS, 1, "exact_letter"),
    ("<|begin_of_thought|>A<|end_of_thought|>B", COLOURS, 1, "exact_letter"),
    ("<|channel|>analysis<|message|>A<|end|><|channel|>final<|message|>B", COLOURS, 1,
     "exact_letter"),
    ("<think></think>", COLOURS, NONE, "only_reasoning"),
    ("", COLOURS, NONE, "blank"),
    (" \n", COLOURS, NONE, "blank"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "choices", "index", "rule"), TABLE, ids=[row[0] for row in TABLE])
def test_text_names_this_choice(text, choices, index, rule):
    found = read_choice(text, choices)
    assert (found.index, found.rule) == (index, rule)


_PIECES = st.sampled_from(
    [
        *("A", "B", "(C)", "D.", "the answer is ", "Answer: ", "not ", " or ", " is wrong", "\n"),
        *("<think>", "</think>", "\\boxed{", "}", "**", "red", "green ", "A. ", "\ud800", "，", ""),
    ]
)
_ANY_SPEED = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
_TEXTS = st.one_of(st.text(), st.lists(_PIECES, max_size=12).map("".join))
_CHOICES = st.lists(st.one_of(st.text(max_size=8), _PIECES), min_size=1, max_size=6)


@settings(_ANY_SPEED, max_examples=300)
@given(text=_TEXTS, choices=_CHOICES)
def test_any_text_names_one_of_the_choices_or_none(text, choices):
    found = read_choice(text, choices)
    assert NO_ANSWER <= found.index < len(choices)
    no_choice = {"undecided", "only_reasoning", "blank", "unread"}
    assert (found.index == NO_ANSWER) == (found.rule in no_choice)


@settings(_ANY_SPEED, max_examples=200)
@given(
    index=st.integers(0, 4),
    form=st.sampled_from(["{}", "({})", "{}.", " {}\n", "The answer is {}.", "The answer is ({})"]),
    choices=st.lists(st.text("abcdefgh ", min_size=2, max_size=9), min_size=5, max_size=5),
)
def test_the_strict_form_names_its_letter_whatever_the_choices(index, form, choices):
    assert read_choice(form.format("ABCDE"[index]), choices).index == index


@settings(_ANY_SPEED, max_examples=200)
@given(index=st.integers(0, 3), thought=st.text())
def test_what_stands_in_reasoning_tags_changes_nothing(index, thought):
    thought = thought.replace("<", "").replace("[", "").replace("◁", "")
    letter = "ABCD"[index]
    assert read_choice(f"<think>{thought}</think>{letter}", COLOURS).index == index


@settings(_ANY_SPEED, max_examples=200)
@given(text=st.text())
def test_text_without_tags_is_kept(text):
    assert without_reasoning(
        text.replace("<", "").replace("[", "").replace("◁", "")
    ) == text.replace("<", "").replace("[", "").replace("◁", "")

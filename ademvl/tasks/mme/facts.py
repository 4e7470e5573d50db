"""The MME benchmark, on which runs on instructions are evaluated: a data set without a training."""

from ademvl.config.tasks import SourceFacts

SOURCES = (SourceFacts(name="mme", gives="mme"),)

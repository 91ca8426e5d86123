"""Which file makes each exhibit that a study can ask for: its functions ``table`` and ``chart``."""

from collections.abc import Iterator
from itertools import product
from types import ModuleType

from workbench.reporting.questions import Study
from workbench.studies import compare, oracle, public_log
from workbench.studies.runs import StudyRuns, load_runs

QUESTIONS = {"log": public_log, "comparison": compare, "oracle": oracle}


def asked(study: Study, profile: str) -> Iterator[tuple[StudyRuns, ModuleType]]:
    """For each data set and backbone of a study's profile the exhibits that it asks for, in reading order."""
    questions = [question for exhibit, question in QUESTIONS.items() if exhibit in study.exhibits]
    return product(load_runs(study, profile), questions)

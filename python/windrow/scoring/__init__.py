"""Computes the log-probability and greedy flag of every scored token, in segment order."""

from windrow.forks import ForkPlan as ForkPlan
from windrow.scoring.agreement import check_same_call as check_same_call
from windrow.scoring.agreement import check_same_tokens as check_same_tokens
from windrow.scoring.check_table import ModelCheck as ModelCheck
from windrow.scoring.checks import check_model as check_model
from windrow.scoring.choice import ScoringPlan as ScoringPlan
from windrow.scoring.clock import Clock as Clock
from windrow.scoring.compiler import Compiler as Compiler
from windrow.scoring.compiler import keep_on_disk as keep_on_disk
from windrow.scoring.contract import known_tokens as known_tokens
from windrow.scoring.corpus import CorpusScores as CorpusScores
from windrow.scoring.corpus import by_request as by_request
from windrow.scoring.corpus import score as score
from windrow.scoring.feed import BatchShape as BatchShape
from windrow.scoring.feed import Part as Part
from windrow.scoring.feed import layout_of as layout_of
from windrow.scoring.scorer import NOT_A_NUMBER as NOT_A_NUMBER
from windrow.scoring.scorer import Scorer as Scorer
from windrow.scoring.scores import Scores as Scores
from windrow.scoring.watch import DeviceWatch as DeviceWatch

__all__ = [
    "NOT_A_NUMBER",
    "BatchShape",
    "Clock",
    "Compiler",
    "CorpusScores",
    "DeviceWatch",
    "ForkPlan",
    "ModelCheck",
    "Part",
    "Scorer",
    "Scores",
    "ScoringPlan",
    "by_request",
    "check_model",
    "check_same_call",
    "check_same_tokens",
    "keep_on_disk",
    "known_tokens",
    "layout_of",
    "score",
]

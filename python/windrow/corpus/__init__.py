"""Scores corpora of any size: reads documents from files and writes scores to files, window by window."""

from windrow.corpus.folder import is_run as is_run
from windrow.corpus.progress import CorpusReport as CorpusReport
from windrow.corpus.progress import read_report as read_report
from windrow.corpus.source import Paths as Paths
from windrow.corpus.stream import check_places as check_places
from windrow.corpus.stream import score_stream as score_stream

__all__ = ["CorpusReport", "Paths", "check_places", "is_run", "read_report", "score_stream"]

"""How objects are displayed at a prompt and in a notebook: briefly, and without arrays."""

import json
from xml.etree import ElementTree

import jax
import numpy as np
import pytest

import windrow
from byte_tokenizer import ByteTokenizer
from windrow.datasets import PadBatchDataset, SortedDataset
from windrow.report.run_report import RunReport

pytestmark = pytest.mark.filterwarnings("ignore:tokenizer 'ByteTokenizer' encodes in Python")


@pytest.fixture
def model():
    table = jax.random.normal(jax.random.key(0), (256, 256))
    return windrow.LanguageModel(table, lambda params, tokens, *_: params[tokens], max_length=64)


def test_repr_of_a_model(model):
    assert repr(model) == "LanguageModel(65,536 parameters, max_length=64, apply)"


def test_repr_of_a_jax_lm(model):
    shown = repr(windrow.JaxLM(model, ByteTokenizer(), prefix_token_id=0, batch_size=8))
    assert shown.startswith("JaxLM(LanguageModel(65,536 parameters")
    for words in ("tokenizer ByteTokenizer", "max_length=64", "batch_size=8", "8 × cpu"):
        assert words in shown
    assert len(shown) < 400


def test_plan_is_displayed_as_a_table():
    plan = windrow.Plan(np.array([7, 3, 5, 2], np.int32), batch_size=2)
    assert plan._repr_html_() == f"<pre>{plan}</pre>"
    assert "array" not in repr(plan)
    assert len(repr(plan)) < 100


def test_repr_of_datasets_has_no_address(model):
    import grain

    requests = [{"prefix": "a", "text": " b"}]
    planned = windrow.evaluation_dataset(
        requests, windrow.tokens.load_tokenizer(ByteTokenizer(), prefix_token_id=0), batch_size=1
    )
    ordered = SortedDataset(grain.MapDataset.source([3, 1]), key=int)
    padded = PadBatchDataset(ordered, multiple_of=2, min_length=0, pad_elem=0)
    for dataset in (planned, ordered, padded):
        assert " at 0x" not in repr(dataset)
        assert repr(dataset).startswith(type(dataset).__name__)


def test_report_is_a_dictionary_that_prints_a_summary(model):
    lm = windrow.JaxLM(model, ByteTokenizer(), prefix_token_id=0)
    windrow_report = lm.report()
    assert isinstance(windrow_report, RunReport)
    assert json.loads(json.dumps(windrow_report)) == dict(windrow_report)
    lines = str(windrow_report).splitlines()
    assert lines[0] == "requests    0: 0 deduplicated, 0 truncated, 0 skipped"
    assert lines[-1].startswith("seconds     tokenize ")
    assert repr(windrow_report) == str(windrow_report)
    table = ElementTree.fromstring(windrow_report._repr_html_())
    cells = [[cell.text for cell in row] for row in table]
    assert cells[0] == ["requests", lines[0][12:]]
    assert len(cells) == len(lines)

"""transformers, asked for its configs and kept quiet."""

import sys

import pytest

pytest.importorskip("transformers")

from tpcalc.errors import TargetError
from tpcalc.trace.hf import default_config
from tpcalc.trace.hf.library import one_line, quiet, transformers


def test_configs_and_their_absence():
    assert default_config("llama").model_type == "llama"
    with pytest.raises(TargetError, match="knows no model type 'lama'; did you mean hf:llama"):
        default_config("lama")


def test_advice_is_kept_quiet_and_the_level_given_back():
    logging = transformers().logging
    before = logging.get_verbosity()
    with pytest.raises(ZeroDivisionError), quiet():
        assert logging.get_verbosity() == logging.ERROR
        raise ZeroDivisionError
    assert logging.get_verbosity() == before


def test_without_the_package_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(TargetError, match=r"install it with pip install tpcalc\[hf\]"):
        transformers()


def test_errors_in_one_line():
    assert one_line(ValueError("a\n  b.")) == "ValueError: a b"

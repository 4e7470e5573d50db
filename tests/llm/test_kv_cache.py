"""Protects the name of the cache: what a decoder's function takes, through its decorators."""

from functools import wraps

import pytest
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from ademvl.llm.kv_cache import cache_name


def _old(self, inputs_embeds, past_key_values=None, use_cache=False, **others): ...


def _new(self, inputs_embeds, cache=None, use_cache=False, **others): ...


def _decorated(function):
    @wraps(function)
    def call(*args, **kwargs):
        if "past_key_values" in kwargs:  # as releases do that rename it
            kwargs["cache"] = kwargs.pop("past_key_values")
        return function(*args, **kwargs)

    return call


@pytest.mark.parametrize(("function", "name"), [(_old, "past_key_values"), (_new, "cache")])
@pytest.mark.parametrize("decorations", [0, 1, 3])
def test_name_is_that_of_the_innermost_function(function, name, decorations):
    for _ in range(decorations):
        function = _decorated(function)
    decoder = type("Decoder", (nn.Module,), {"forward": function})()
    assert cache_name(decoder) == name


def test_installed_release_gives_its_cache_under_the_same_name():
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "vocab_size": 9}
    llm = LlamaForCausalLM(LlamaConfig(num_attention_heads=1, **sizes))
    for module in (llm, llm.model):
        output = module(input_ids=llm.dummy_inputs["input_ids"] % 9, use_cache=True)
        assert output[cache_name(module)] is not None

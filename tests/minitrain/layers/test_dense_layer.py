"""Dense against PyTorch, and its errors."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minitrain.layer import Spec
from minitrain.layers import Dense


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 40), st.integers(1, 40), st.booleans())
def test_agrees_with_torch(batch, features, out_features, bias):
    torch = pytest.importorskip("torch")
    from torch_layer import agrees

    agrees(Dense(out_features, bias), [(batch, features)], torch.nn.functional.linear)


def test_images_are_to_be_flattened():
    with pytest.raises(ValueError, match=r"input of shape \(N, features\), got \(N, 3, 4, 4\); put Flatten"):
        Dense(10).declare(Spec((2, 3, 4, 4)))


def test_fans_and_arguments():
    declared = Dense(5).declare(Spec((2, 7)))
    assert (declared.params["weight"].fan_in, declared.params["weight"].fan_out) == (7, 5)
    assert declared.params["weight"].penalized
    assert not declared.params["bias"].penalized
    with pytest.raises(ValueError, match="out_features: expected an integer >= 1, got -3"):
        Dense(-3)

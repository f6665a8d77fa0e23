import numpy as np
import pytest
import torch

from raygpt.data.batches import TrainingBatches, validation_windows
from raygpt.data.dataset import TokenStream
from raygpt.errors import UserError


def counting_stream(length):
    """Token i is i, so that a batch shows where it comes from; in two shards."""
    tokens = np.arange(length, dtype=np.uint16)
    return TokenStream([tokens[:37], tokens[37:]])


def windows_of(inputs, context):
    return (inputs[:, 0] // context).tolist()


def test_targets_are_the_inputs_one_token_on():
    inputs, targets = TrainingBatches(counting_stream(1001), 10, 1000, seed=0).sequences(3, 20)
    assert inputs.shape == targets.shape == (17, 10)
    assert inputs.dtype == targets.dtype == torch.int64
    assert torch.equal(targets, inputs + 1)
    assert torch.equal(inputs[:, 1:], targets[:, :-1])


def test_every_window_comes_once_an_epoch_in_a_new_order():
    batches = TrainingBatches(counting_stream(1001), 10, 1000, seed=0)
    assert batches.n_windows == 100
    epochs = [windows_of(batches.sequences(e * 100, e * 100 + 100)[0], 10) for e in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(100))
    assert len({tuple(epoch) for epoch in epochs} | {tuple(range(100))}) == 4


def test_a_sequence_depends_on_seed_and_position_only():
    stream = counting_stream(1001)
    whole = TrainingBatches(stream, 10, 1000, seed=1).sequences(0, 450)[0]
    again = TrainingBatches(stream, 10, 1000, seed=1)
    for start, stop in [(430, 450), (0, 7), (195, 305), (90, 110), (449, 450)]:
        assert torch.equal(again.sequences(start, stop)[0], whole[start:stop])
    other = TrainingBatches(stream, 10, 1000, seed=2).sequences(0, 450)[0]
    assert not torch.equal(other, whole)


def test_the_order_does_not_change_when_the_cache_is_extended():
    short, long = counting_stream(801), counting_stream(5000)
    for stream in (short, long):
        assert TrainingBatches(stream, 10, 800, seed=3).n_windows == 80
    ours, theirs = (TrainingBatches(s, 10, 800, seed=3).sequences(0, 200) for s in (short, long))
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1], theirs[1])


def test_the_slices_of_the_workers_make_up_the_batch():
    batches = TrainingBatches(counting_stream(1001), 10, 1000, seed=0)
    whole = batches.sequences(96, 108)[0]
    slices = [batches.sequences(96 + rank, 108, 3)[0] for rank in range(3)]
    assert torch.equal(torch.stack(slices, dim=1).reshape(12, 10), whole)


def test_only_the_last_epochs_are_kept_in_memory():
    batches = TrainingBatches(counting_stream(101), 10, 100, seed=0)
    batches.sequences(0, 1000)
    assert len(batches._orders) == 2


def test_epochs():
    assert TrainingBatches(counting_stream(1001), 10, 1000, seed=0).epochs(2500) == 2.5


def test_validation_windows_score_each_target_once_in_order():
    windows = validation_windows(counting_stream(1000), 10, 10**9)
    assert len(windows) == 99  # the hundredth would lack its last target
    inputs, targets = windows.sequences(0, len(windows))
    assert inputs.flatten().tolist() == list(range(990))
    assert targets.flatten().tolist() == list(range(1, 991))
    assert len(validation_windows(counting_stream(1000), 10, 55)) == 5


def test_windows_beyond_the_end_are_refused():
    windows = validation_windows(counting_stream(1000), 10, 100)
    with pytest.raises(IndexError):
        windows.sequences(9, 11)


@pytest.mark.parametrize(("length", "wanted"), [(10, 1000), (1000, 9), (0, 10)])
def test_less_than_one_window_is_refused(length, wanted):
    stream = counting_stream(length) if length else TokenStream([])
    with pytest.raises(UserError, match=r"training set has too few tokens .* data\.context = 10"):
        TrainingBatches(stream, 10, wanted, seed=0)
    with pytest.raises(UserError, match=r"validation set has too few tokens .*data\.context = 10"):
        validation_windows(stream, 10, wanted)

import pytest
import torch

from lit_models.finite_loss import FiniteLossGuard, NonFiniteLossError


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_not_finite_names_step_and_samples(loss: float) -> None:
    with pytest.raises(NonFiniteLossError, match=r"at step 7 .epoch 1, batch 2, samples 5, 9") as e:
        FiniteLossGuard().check(torch.tensor(loss), 7, "epoch 1, batch 2", torch.tensor([5, 9]))
    assert e.value.step == 7
    assert e.value.indices == [5, 9]


def test_finite_losses_pass() -> None:
    guard = FiniteLossGuard()
    for step, loss in enumerate([0.0, -3.0, 1e38]):
        guard.check(torch.tensor(loss), step, "", torch.tensor([0]))
    guard.flush()


def test_a_long_list_of_samples_is_shortened_in_the_message_only() -> None:
    with pytest.raises(NonFiniteLossError) as e:
        FiniteLossGuard().check(torch.tensor(float("nan")), 0, "", torch.arange(100))
    assert "samples 0, 1, 2, 3, 4, 5, 6, 7, ...)" in str(e.value)
    assert len(e.value.indices) == 100


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_a_loss_is_found_out_one_step_later_or_before_a_checkpoint() -> None:
    guard = FiniteLossGuard()
    index = torch.tensor([3])
    guard.check(torch.tensor(float("nan"), device="cuda"), 4, "", index)
    with pytest.raises(NonFiniteLossError, match="at step 4"):
        guard.flush()

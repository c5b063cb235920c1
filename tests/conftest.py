"""A test that takes a ``device`` runs on the CPU and, where CUDA is available, there too: marked ``gpu``.

Each test starts from the same seed, ``--seed N`` or 0, and leaves torch's global settings as it found them, so that no test
depends on those that ran before it.
"""

import pytest
import torch

from support.inductor import keep_code_apart

DEVICES = [pytest.param(torch.device("cpu"), id="cpu")]
if torch.cuda.is_available():
    DEVICES.append(pytest.param(torch.device("cuda", 0), id="cuda", marks=pytest.mark.gpu))


def pytest_addoption(parser):
    parser.addoption("--seed", type=int, metavar="N", help="seed of torch in each test (0) and of hypothesis (none)")


@pytest.hookimpl(tryfirst=True)  # before hypothesis reads its own option
def pytest_configure(config):
    keep_code_apart()
    if config.option.seed is not None and getattr(config.option, "hypothesis_seed", None) is None:
        config.option.hypothesis_seed = str(config.option.seed)


def pytest_generate_tests(metafunc):
    if "device" in metafunc.fixturenames:
        metafunc.parametrize("device", DEVICES)


@pytest.fixture(autouse=True)
def _seed(request):
    torch.manual_seed(request.config.option.seed or 0)


def global_settings():
    """torch's settings that a test may change: of each, its value and the function that sets it."""
    deterministic = (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled())
    return (
        (torch.get_num_threads(), torch.set_num_threads),
        (torch.get_default_dtype(), torch.set_default_dtype),
        (torch.get_float32_matmul_precision(), torch.set_float32_matmul_precision),
        (torch.is_grad_enabled(), torch.set_grad_enabled),
        (deterministic, lambda value: torch.use_deterministic_algorithms(value[0], warn_only=value[1])),
    )


@pytest.fixture(autouse=True)
def _settings():
    before = global_settings()
    yield
    for (value, restore), (now, _) in zip(before, global_settings(), strict=True):
        if now != value:
            restore(value)

"""A test that takes a ``device`` runs on the CPU and, where CUDA is available, there too: marked ``gpu``."""

import pytest
import torch

DEVICES = [pytest.param(torch.device("cpu"), id="cpu")]
if torch.cuda.is_available():
    DEVICES.append(pytest.param(torch.device("cuda", 0), id="cuda", marks=pytest.mark.gpu))


def pytest_generate_tests(metafunc):
    if "device" in metafunc.fixturenames:
        metafunc.parametrize("device", DEVICES)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)

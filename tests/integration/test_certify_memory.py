"""Residual networks are certified and verified in an address space of one gibibyte."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import aisec_eval as ae

NETWORKS = ["models/cifar_resnet2b.onnx", "vnncomp/cifar10_resnet/onnx/resnet_4b.onnx"]

SCRIPT = """
import resource
import sys
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
import numpy as np
import aisec_eval as ae

model = ae.load_model(sys.argv[1])
x, y = (np.load(path) for path in sys.argv[2:4])
result = ae.certify(model, x, y, ae.Linf("1/255"), memory_limit=int(sys.argv[4]))
np.save(sys.argv[5], result.margins_lower)
# Not `ru_maxrss`, which starts from the size of the process that started this one.
status = open("/proc/self/status").read().splitlines()
print(int(next(line for line in status if line.startswith("VmHWM")).split()[1]) // 1024)
"""


def images(reference, count):
    """The first test images, float32 [count, 3, 32, 32], and their labels."""
    data = np.load(reference / "images" / "cifar10_test_0000_2000.npz")
    x = data["x"][:count].astype(np.float32).transpose(0, 3, 1, 2) / np.float32(255)
    return np.ascontiguousarray(x), data["y"][:count].astype(np.int64)


@pytest.mark.reference
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("network", NETWORKS)
def test_crown_in_a_gibibyte(network, reference, tmp_path):
    (x, y), path = images(reference, 3), reference / network
    model = ae.load_model(path)
    expected = ae.certify(model, x, y, ae.Linf("1/255")).margins_lower
    assert np.isfinite(expected).any()  # nothing is certified of what is misclassified
    for name, array in (("x", x), ("y", y)):
        np.save(tmp_path / f"{name}.npy", array)
    arguments = [path, tmp_path / "x.npy", tmp_path / "y.npy", 1 << 20, tmp_path / "bounds.npy"]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # The limit changes how much is done at once, and no bit of the bounds.
    np.testing.assert_array_equal(np.load(tmp_path / "bounds.npy"), expected)
    assert int(done.stdout) < 200, "MiB resident"


@pytest.mark.reference
def test_verify_in_a_gibibyte(reference):
    folder = reference / "vnncomp" / "cifar10_resnet"
    network = folder / "onnx" / "resnet_4b.onnx"
    prop = folder / "vnnlib" / "resnet4b_pgd_filtered__prop_2_eps_0.004.vnnlib.gz"
    limit = "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)); "
    run = "import aisec_eval as ae; print(ae.verify(sys.argv[1], sys.argv[2], timeout=6).status)"
    done = subprocess.run(
        [sys.executable, "-c", limit + run, str(network), str(prop)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in {"unsat", "unknown"}

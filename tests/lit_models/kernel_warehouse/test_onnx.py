from pathlib import Path

import numpy as np
import pytest
import torch

from lit_models.kernel_warehouse import set_temperature, warehouse_network
from lit_models.registry import create_network

onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra `onnx`")
pytest.importorskip("onnxscript", reason="needs the extra `onnx`")


# The exporter takes about ten seconds even for a small network.
@pytest.mark.slow
@pytest.mark.parametrize(("ratio", "temperature"), [(2, 0.3)])
def test_one_onnx_graph_serves_every_batch_size(
    tmp_path: Path, ratio: float, temperature: float
) -> None:
    torch.manual_seed(0)
    plain = create_network("mnist_demo_gluoncv", num_classes=10, in_chans=1)
    network = warehouse_network(plain, cell_num_ratio=ratio).eval()
    set_temperature(network, temperature)
    program = torch.onnx.export(
        network,
        (torch.rand(3, 1, 28, 28),),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        optimize=False,
        verbose=False,
    )
    assert program is not None
    program.save(tmp_path / "network.onnx", external_data=False)
    session = onnxruntime.InferenceSession(
        tmp_path / "network.onnx", providers=["CPUExecutionProvider"]
    )
    (entry,) = session.get_inputs()
    for batch in (1, 5):
        images = torch.rand(batch, 1, 28, 28)
        (logits,) = session.run(None, {entry.name: images.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(logits, network(images), rtol=1e-5, atol=1e-6)

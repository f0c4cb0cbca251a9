"""KernelWarehouse: dynamic convolution whose kernels are mixtures of shared cells.

"KernelWarehouse: Rethinking the Design of Dynamic Convolution", ICML 2024, arXiv 2406.07879.
Importing this package registers its networks with timm and its weights with `load_official`.
"""

from lit_models.kernel_warehouse import rows, weights
from lit_models.kernel_warehouse.annealing import set_temperature, temperature
from lit_models.kernel_warehouse.generic import warehouse_network
from lit_models.kernel_warehouse.layers import (
    KWConv1d,
    KWConv2d,
    KWConv3d,
    KWLinear,
    kernel_layers,
    set_mixture,
)
from lit_models.kernel_warehouse.plans import Plan, WarehousePlan, install, make_plan
from lit_models.kernel_warehouse.sharing import (
    SharedWarehouse,
    SharingStatistics,
    effective_cells,
    shared_warehouses,
    sharing_of,
)
from lit_models.kernel_warehouse.warehouse import Warehouse

__all__ = [
    "KWConv1d",
    "KWConv2d",
    "KWConv3d",
    "KWLinear",
    "Plan",
    "SharedWarehouse",
    "SharingStatistics",
    "Warehouse",
    "WarehousePlan",
    "effective_cells",
    "install",
    "kernel_layers",
    "make_plan",
    "rows",
    "set_mixture",
    "set_temperature",
    "shared_warehouses",
    "sharing_of",
    "temperature",
    "warehouse_network",
    "weights",
]

import pytest
import torch
import torchvision
from torch import nn

from lesion_exp.explanation.network import Cells, CellTracker, even_cells, spread


def cells_of(network, num_cells, side=64):
    tracker = CellTracker(side)
    with tracker.following(network), torch.no_grad():
        network.eval()(torch.zeros(1, 3, side, side))
    assert not any(module._forward_hooks for module in network.modules())
    return tracker.cells(num_cells)


@pytest.mark.parametrize(
    ("windows", "num_cells"),
    [
        ([(3, 2, 1)] * 3, 8),
        ([(7, 2, 3), (3, 2, 1)], 16),
        ([(2, 2, 0)] * 2, 16),
        ([(16, 16, 0)], 4),
        ([(3, 1, 0), (5, 1, 2), (3, 2, 0)], 30),
        ([(3, 2, 1), (2, 2, 0)], 16),
    ],
)
def test_a_cell_lies_in_the_middle_of_what_it_sees(windows, num_cells):
    """The gradient of a cell by the image, with all weights equal, is symmetric about the cell's centre."""
    layers = [nn.Conv2d(1, 1, kernel, stride, padding, bias=False) for kernel, stride, padding in windows]
    network = nn.Sequential(nn.Conv2d(3, 1, 1, bias=False), *layers)
    for layer in network:
        nn.init.ones_(layer.weight)
    image = torch.zeros(1, 3, 64, 64, requires_grad=True)
    middle = num_cells // 2
    network(image)[0, 0, middle, middle].backward()
    seen = image.grad[0, 0].sum(dim=0)
    centre = float((seen * torch.arange(64)).sum() / seen.sum())
    found = cells_of(network, num_cells)
    assert found.first + middle * found.step == pytest.approx(centre)


def test_the_last_cells_of_a_resnet_lie_half_a_cell_further_up_and_left_than_equal_parts():
    assert cells_of(torchvision.models.resnet18(), 2) == Cells(0.0, 32.0)
    assert even_cells(2, 64) == Cells(15.5, 32.0)


@pytest.mark.parametrize(("name", "num_cells"), [("swin_t", 2), ("convnext_tiny", 2), ("vit_b_16", 4)])
def test_patches_are_equal_parts(name, num_cells):
    options = {"image_size": 64} if name == "vit_b_16" else {}
    assert cells_of(torchvision.models.get_model(name, **options), num_cells) == even_cells(num_cells, 64)


def test_a_map_is_spread_so_that_each_cell_has_its_value_at_its_centre():
    maps = torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(0))
    found = spread(maps, Cells(2.0, 8.0), 24)
    assert torch.allclose(found[:, 2::8, 2::8], maps)
    assert torch.allclose(found[:, 2, 6], (maps[:, 0, 0] + maps[:, 0, 1]) / 2)
    assert torch.allclose(found[:, :3, :3], maps[:, :1, :1].expand(2, 3, 3)), "even beyond the outermost centres"


def test_both_ways_to_spread_agree():
    maps = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0))
    even = even_cells(4, 32)
    torch.testing.assert_close(spread(maps, Cells(even.first + 1e-9, even.step), 32), spread(maps, even, 32))

"""The reference optimizers do what their papers say, on one matrix and by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tpcalc.check import reference
from tpcalc.errors import TpcalcError


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def steps(cls: type, start: Tensor, gradients: list[Tensor], **options) -> list[Tensor]:
    """The parameter after each step."""
    p = nn.Parameter(start.clone())
    optimizer = cls([p], **{"lr": 0.1, **options})
    path = [start]
    for gradient in gradients:
        p.grad = gradient.clone()
        optimizer.step()
        path.append(p.detach().clone())
    return path


def directions(path: list[Tensor], lr: float = 0.1) -> list[Tensor]:
    return [(before - after) / lr for before, after in zip(path, path[1:])]


W, G, H = drawn(6, 4), drawn(6, 4, seed=1), drawn(6, 4, seed=2)
CLOSE = {"rtol": 1e-6, "atol": 1e-9}


def test_sign_and_lion():
    first, second = directions(steps(reference.Sign, W, [G, H], momentum=0.9))
    torch.testing.assert_close(first, G.sign(), **CLOSE)
    torch.testing.assert_close(second, (0.9 * 0.1 * G + 0.1 * H).sign(), **CLOSE)
    first, second = directions(steps(reference.Lion, W, [G, H], betas=(0.9, 0.99)))
    torch.testing.assert_close(first, G.sign(), **CLOSE)
    torch.testing.assert_close(second, (0.9 * 0.01 * G + 0.1 * H).sign(), **CLOSE)


def test_adam_atan2_is_a_bounded_adam():
    adam = steps(lambda params, lr: torch.optim.Adam(params, lr=lr, eps=0.0), W, [G, H])
    ratio = directions(adam)[1]
    torch.testing.assert_close(directions(steps(reference.AdamAtan2, W, [G, H]))[1], torch.atan(ratio), **CLOSE)


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_lamb_and_lars_move_by_the_norm_of_the_weight(decay):
    (lamb,) = directions(steps(reference.LAMB, W, [G], weight_decay=decay, eps=1e-12))
    torch.testing.assert_close(lamb.norm(), W.norm(), **CLOSE)
    update = G.sign() + decay * W
    torch.testing.assert_close(lamb, update * W.norm() / update.norm(), rtol=1e-5, atol=1e-9)
    (lars,) = directions(steps(reference.LARS, W, [G], weight_decay=decay, eps=0.0))
    ratio = W.norm() / (G.norm() + decay * W.norm())
    torch.testing.assert_close(lars, ratio * (G + decay * W), **CLOSE)


def test_a_zero_weight_takes_the_update_unscaled():
    (lamb,) = directions(steps(reference.LAMB, 0 * W, [G], eps=1e-12))
    torch.testing.assert_close(lamb, G.sign(), **CLOSE)
    torch.testing.assert_close(directions(steps(reference.LARS, 0 * W, [G]))[0], G, **CLOSE)


def test_decoupled_decay():
    (moved,) = directions(steps(reference.Lion, W, [G], weight_decay=0.5))
    torch.testing.assert_close(moved, G.sign() + 0.5 * W, **CLOSE)


def test_muon_spectral_makes_singular_values_alike():
    (update,) = directions(steps(reference.MuonSpectral, W, [G]))
    values = torch.linalg.svdvals(update) / (6 / 4) ** 0.5
    assert values.min() > 0.6 and values.max() < 1.3
    u, _, v = torch.linalg.svd(G, full_matrices=False)
    assert torch.corrcoef(torch.stack([update.flatten(), (u @ v).flatten()]))[0, 1] > 0.95
    with pytest.raises(TpcalcError, match="takes matrices only"):
        steps(reference.MuonSpectral, drawn(3), [drawn(3)])


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
def test_muon_is_that_of_torch_but_for_bfloat16(shape, adjust):
    cls = getattr(torch.optim, "Muon", None) or pytest.skip("this torch has no Muon")
    start, gradients = drawn(*shape), [drawn(*shape, seed=seed) for seed in (1, 2, 3)]
    ours, theirs = (
        steps(of, start, gradients, adjust_lr_fn=adjust, weight_decay=0.3)[-1] - start for of in (reference.Muon, cls)
    )
    assert (ours - theirs).norm() < 0.03 * theirs.norm()


def test_shampoo_divides_by_the_sums_of_squares():
    first, second = directions(steps(reference.Shampoo, W, [G, H], eps=1e-6))
    u, _, v = torch.linalg.svd(G, full_matrices=False)
    torch.testing.assert_close(first, u @ v, rtol=1e-3, atol=1e-3)  # the first is orthogonal

    def root(gram: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(gram + 1e-6 * torch.eye(len(gram), dtype=gram.dtype))
        return (vectors * values**-0.25) @ vectors.T

    expected = root(G @ G.T + H @ H.T) @ H @ root(G.T @ G + H.T @ H)
    torch.testing.assert_close(second, expected, rtol=1e-5, atol=1e-6)


def test_shampoo_on_a_vector_and_on_a_convolution():
    g = drawn(5)
    (update,) = directions(steps(reference.Shampoo, 0 * g, [g], eps=1e-12))
    torch.testing.assert_close(update, g / g.norm(), rtol=1e-5, atol=1e-6)
    one, two, three, four = (drawn(size, seed=size) for size in (5, 4, 3, 2))
    kernel = torch.einsum("i,j,k,l->ijkl", one, two, three, four)
    (update,) = directions(steps(reference.Shampoo, 0 * kernel, [kernel], eps=1e-12))
    torch.testing.assert_close(update, kernel / kernel.norm(), rtol=1e-4, atol=1e-5)


def test_soap_skips_a_step_and_is_adam_in_the_basis_of_the_last():
    a, b = G[:4], H[:4]  # square: a tall one's null space has no basis of its own
    skipped, update = directions(steps(reference.SOAP, 0 * a, [a, b], eps=0.0))
    assert not skipped.any()
    left, right = (torch.linalg.eigh(x).eigenvectors for x in (a @ a.T, a.T @ a))
    torch.testing.assert_close(update, left @ (left.T @ b @ right).sign() @ right.T, rtol=1e-5, atol=1e-6)
    g = drawn(5)
    torch.testing.assert_close(directions(steps(reference.SOAP, 0 * g, [g, g], eps=0.0))[1], g.sign(), **CLOSE)


def test_soap_on_one_gradient_is_its_orthogonal_factor():
    """In its own eigenbasis the gradient is diagonal; Adam makes the diagonal 1, and epsilon keeps rounding small."""
    _, update = directions(steps(reference.SOAP, W, [G, G], eps=1e-6))
    u, _, v = torch.linalg.svd(G, full_matrices=False)
    torch.testing.assert_close(update, u @ v, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("cls, powers", [(reference.KFAC, (1, 1)), (reference.FOOF, (1, 0))])
def test_kfac_solves_with_the_factors_of_its_layer(cls, powers):
    torch.manual_seed(0)
    layer = nn.Linear(4, 3).double()
    x, y = drawn(7, 4), drawn(7, 3, seed=1)
    optimizer = cls([{"params": list(layer.parameters()), "lr": 1.0}], layer, damping=0.1)
    before = [p.detach().clone() for p in layer.parameters()]
    (layer(x) - y).square().sum(1).mean().backward()
    optimizer.step()
    outputs = 2 * (x @ before[0].T + before[1] - y)  # gradients of each sample's loss
    A, B = x.T @ x / 7, outputs.T @ outputs / 7
    A, B = (m + 0.1 * m.trace() * torch.eye(len(m), dtype=m.dtype) for m in (A, B))
    gradient, bias = outputs.T @ x / 7, outputs.mean(0)
    invert = torch.linalg.inv if powers[1] else lambda m: torch.eye(len(m), dtype=m.dtype)
    moved = [a - b.detach() for a, b in zip(before, layer.parameters())]
    torch.testing.assert_close(moved[0], invert(B) @ gradient @ torch.linalg.inv(A), **CLOSE)
    torch.testing.assert_close(moved[1], invert(B) @ bias, **CLOSE)


def test_kfac_of_an_embedding_knows_how_often_rows_occur():
    table = nn.Embedding(3, 2).double()
    tokens = torch.tensor([[0, 0, 0, 1]])
    optimizer = reference.FOOF([{"params": [table.weight], "lr": 1.0}], table, damping=1e-12)
    before = table.weight.detach().clone()
    (table(tokens) * drawn(4, 2)).sum().backward()
    gradient = table.weight.grad.clone()
    optimizer.step()
    moved = (before - table.weight.detach())[:2]
    torch.testing.assert_close(moved, gradient[:2] / torch.tensor([[0.75], [0.25]], dtype=torch.float64), **CLOSE)
